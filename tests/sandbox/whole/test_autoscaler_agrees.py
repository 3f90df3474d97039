"""The sandbox scales under real load the way ``simulate`` says for the same settings.

What ``simulate`` is given is the rendered annotations, the schedule of clients, and two measured
times: a request's and a pod's cold start. Everything else it must find itself.

As with the recordings of a real cluster, a second counts as equal if the predicted count occurs
among the samples of the two seconds around it, and 90 % of them must be: load is reported once a
second, and requests are spread over pods at random. The autoscaler decides every two seconds
since some moment that nobody outside knows: both phases are simulated, one must agree.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

import aiohttp
import paced
import pytest
from node_world import BUCKET, HOST, client, lake
from whole_world import WholeStage, weights

from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import FixedServer
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import ClosedLoop
from qwenkit.manifests.render import render
from qwenkit.manifests.template import plain
from qwenkit.sandbox.kube.objects import Object, condition
from qwenkit.sandbox.webhooks import Webhooks
from qwenkit.settings import Settings

SCALE = 4.0
SLACK_S, ENOUGH = 2.0, 0.9
SETTINGS = {"scale_target": "4", "max_scale": "3", "stable_window": "10s", "bucket": BUCKET}
# Aiming at 2.8 a replica, 4 clients need two and 8 need three, neither near a boundary.
FEW, MANY = 4, 8
QUIET_S, FEW_S, MANY_S = 2.0, 8.0, 8.0
SCHEDULE = ((QUIET_S, FEW), (QUIET_S + FEW_S, MANY), (QUIET_S + FEW_S + MANY_S, 0))
# Long to answer and soon computed: steps of a slow GPU leave a busy machine time for its own.
GPU, TOKENS = "T4", 30


class Sample(NamedTuple):
    at_s: float
    desired: int
    ready: int


@dataclass
class Run:
    """What was seen from outside; all times in the cluster's seconds."""

    begin_s: float
    startup_s: float
    active_s: float
    samples: list[Sample] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    latencies: list[float] = field(default_factory=list)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return paced.run(watched_load(tmp_path_factory.mktemp("oss")))


def test_the_sandbox_scales_as_simulated(run: Run) -> None:
    assert run.statuses == {200}
    assert max(sample.ready for sample in run.samples) == 3
    share, table = agreement(run, SETTINGS)
    assert share >= ENOUGH, f"{share:.0%} of the seconds\n{table}"


@pytest.mark.parametrize("other", [{"scale_target": "8"}, {"stable_window": "30s"}], ids=str)
def test_simulated_with_another_setting_it_does_not_agree(run: Run, other: dict[str, str]) -> None:
    share, table = agreement(run, SETTINGS | other)
    assert share < ENOUGH, f"{share:.0%} of the seconds\n{table}"


async def watched_load(root: Path) -> Run:
    """Deploy the Service, load it with few clients and then with more, and let it go to zero."""
    async with weights(root) as oss:
        stage = WholeStage(oss, scale=SCALE, load_s=2, gpu=GPU)
        async with stage.running():
            deploy(stage, Settings.load(text=SETTINGS))
            await stage.eventually(lambda: stage.ready("KnativeService", "qwen"))
            created, ready, active = moments(stage)
            begin = stage.clock.now()
            run = Run(begin, startup_s=ready - created, active_s=begin - active)
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(sample(stage, run))
                await load(stage, run)
                await stage.eventually(lambda: run.samples[-1][1:] == (0, 0))
                watch.cancel()
    return run


def deploy(stage: WholeStage, settings: Settings) -> None:
    """Create the rendered Service; its volume is the stage's."""
    service = plain(render(settings)[-1])
    admit = Webhooks(stage.store).admit
    stage.store.create(
        "KnativeService",
        admit("CREATE", "KnativeService", service, None, False, "kubernetes-admin"),
    )


def moments(stage: WholeStage) -> tuple[float, float, float]:
    """Return when the only pod was created, when it was ready, and when its revision Active."""
    pods = [(when, obj) for when, _, obj in stage.lines if obj["kind"] == "Pod"]
    scalers = [(when, obj) for when, _, obj in stage.lines if obj["kind"] == "PodAutoscaler"]
    ready = next(when for when, pod in pods if is_true(pod, "Ready"))
    return pods[0][0], ready, next(when for when, scaler in scalers if is_true(scaler, "Active"))


async def sample(stage: WholeStage, run: Run) -> None:
    """Count the replicas twice a second, as ``qwenkit.cluster.scale`` does."""
    while True:
        (scaler,) = stage.store.list("PodAutoscaler")
        pods = stage.store.list("Pod")
        ready = sum(is_true(p, "Ready") for p in pods if "deletionTimestamp" not in p["metadata"])
        desired = max(0, scaler["status"]["desiredScale"])
        run.samples.append(Sample(stage.clock.now() - run.begin_s, desired, ready))
        await asyncio.sleep(stage.clock.real(0.5))


async def load(stage: WholeStage, run: Run) -> None:
    """Let clients send one request after the other, from and until when the schedule says."""
    async with client() as session, asyncio.TaskGroup() as clients:
        before = 0
        for at_s, wanted in SCHEDULE[:-1]:
            await asyncio.sleep(stage.clock.real(run.begin_s + at_s - stage.clock.now()))
            for _ in range(wanted - before):
                clients.create_task(ask_on(stage, run, session))
            before = wanted


async def ask_on(stage: WholeStage, run: Run, session: aiohttp.ClientSession) -> None:
    """Be one client until the schedule ends; the last answer is waited for."""
    url, headers = f"{stage.gateway_url}/v1/chat/completions", {"Host": HOST}
    body = lake(max_tokens=TOKENS, ignore_eos=True)
    while (sent := stage.clock.now()) < run.begin_s + SCHEDULE[-1][0]:
        async with session.post(url, json=body, headers=headers) as response:
            await response.read()
        run.statuses.add(response.status)
        run.latencies.append(stage.clock.now() - sent)


def agreement(run: Run, settings: dict[str, str]) -> tuple[float, str]:
    """Return the share of equal seconds for the better phase, and all of them as a table."""
    return max(compare(run.samples, predict(run, settings, phase)) for phase in (0, 1))


def predict(run: Run, settings: dict[str, str], phase: int) -> list[tuple[int, int]]:
    """Simulate the run with the autoscaler's clock ``phase`` seconds ahead of the watch's."""
    template = render(Settings.load(text=settings))[-1]["spec"]["template"]
    predicted = simulate(
        parse_spec(template["metadata"]["annotations"]),
        ClosedLoop(tuple((at_s + phase, clients) for at_s, clients in SCHEDULE)),
        FixedServer(median(run.latencies)),
        environment=Environment(
            gpus=3,
            startup_s=run.startup_s,
            initial_ready=1,
            active_for_s=max(0.0, run.active_s - phase),
        ),
        duration_s=run.samples[-1].at_s + phase + 1,
    )
    return list(zip(predicted.desired, predicted.ready, strict=True))[phase:]


def compare(samples: list[Sample], predicted: list[tuple[int, int]]) -> tuple[float, str]:
    """Return the smaller share of equal seconds, of desired and ready, and both as a table."""
    equal, lines = {"desired": 0, "ready": 0}, ["second: predicted desired/ready; sampled"]
    seconds = range(1, int(samples[-1].at_s) + 1)
    for second in seconds:
        near = [one for one in samples if abs(one.at_s - second) <= SLACK_S]
        for name, value in zip(equal, predicted[second], strict=True):
            equal[name] += any(getattr(one, name) == value for one in near)
        sampled = " ".join(f"{one.desired}/{one.ready}" for one in near)
        lines.append("{:>3}: {}/{}; ".format(second, *predicted[second]) + sampled)
    return min(equal.values()) / len(seconds), "\n".join(lines)


def is_true(obj: Object, kind: str) -> bool:
    return condition(obj, kind).get("status") == "True"
