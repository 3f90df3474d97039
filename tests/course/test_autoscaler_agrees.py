"""The sandbox scales under real load the way ``simulate`` says for the same settings.

What ``simulate`` is given is the rendered annotations, the schedule of clients, and two measured
times: a request's in the server and a pod's cold start. Everything else it must find itself.

As with the recordings of a real cluster, a second counts as equal if the predicted count occurs
among the samples of the two seconds around it, and 90 % of them must be: reports come once a
second, a pod's times are whole seconds, and the machine has more to do. The autoscaler decides
every two seconds since some moment that nobody outside knows: both phases are simulated, one must
agree.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import accumulate
from statistics import median
from threading import Thread

import pytest

from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.autoscaling.environment import Environment
from qwenkit.autoscaling.fleet import Startup
from qwenkit.autoscaling.server import FixedServer
from qwenkit.autoscaling.simulate import simulate
from qwenkit.autoscaling.traffic import ClosedLoop
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.gateway import find
from qwenkit.cluster.kinds import POD_AUTOSCALER, SERVICE_LABEL, condition
from qwenkit.cluster.scale import ReplicaWatch, wait_replicas
from qwenkit.cluster.timeline import cold_start
from qwenkit.inference.client import Server
from qwenkit.inference.load import run_load
from qwenkit.manifests.render import render
from qwenkit.sandbox import process
from qwenkit.settings import load_settings

pytestmark = pytest.mark.alone

TIME_SCALE = 20  # of the sandbox that all these tests share
SLACK_S, ENOUGH = 2.0, 0.9
SETTINGS = {
    "service": "agrees",
    "volume": "agrees",
    "prefix": "agrees",
    "run": "agrees",
    "scale_target": "4",
    "max_scale": "3",
    "stable_window": "10s",
    "timeout_s": "60",
    "delete_weights": "true",
}
SET = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
# Aiming at 2.8 a replica, 4 clients need two and 8 need three, neither near a boundary.
FEW, MANY = 4, 8
QUIET_S, FEW_S, MANY_S = 2.0, 8.0, 8.0
# Long to read and short to answer: requests that last, on a machine that has little to do.
PROMPT, ANSWER_TOKENS = "西湖" * 2500, 4


@pytest.fixture
def deployed(sandbox, qwenkit, monkeypatch):
    """Return the settings of a Service with one ready pod; gone afterwards."""
    for name, value in process.environment(sandbox).items():
        monkeypatch.setenv(name, value)
    bucket = process.environment(sandbox)["OSS_BUCKET"]
    source = "modelscope:qwen/Qwen-7B-Chat-Int8"
    uploaded = qwenkit("upload", source, f"oss://{bucket}/agrees", *SET)
    assert uploaded.returncode == 0, uploaded.stderr
    ready = qwenkit("deploy", *SET)
    assert ready.returncode == 0, ready.stderr
    yield load_settings(text=SETTINGS)
    down = qwenkit("teardown", *SET)
    assert down.returncode == 0, down.stderr


def test_the_sandbox_scales_as_simulated(deployed):
    settings = deployed
    cluster = Cluster.connect(settings)
    startup_s = cold_start(cluster, settings).total_s
    with ReplicaWatch(cluster, settings, every_s=0.5) as watch:
        active_s = active_for(cluster, settings)
        begin = time.monotonic()
        time.sleep(QUIET_S)  # a part of the schedule, it waits for nothing
        schedule, requests = load(cluster, settings, begin)
        wait_replicas(cluster, settings, at_most=0)
    assert watch.error is None
    assert {request.outcome for request in requests} == {"ok"}
    assert max(sample.ready for sample in watch.samples) == 3
    service_s = median(request.latency_s for request in requests)
    tries = [
        compare(watch.samples, predict(settings, schedule, service_s, startup_s, active_s, phase))
        for phase in (0, 1)
    ]
    best = max(tries, key=lambda each: each[0])
    assert best[0] >= ENOUGH, f"{best[0]:.0%} of the seconds\n{best[1]}"


def predict(settings, schedule, service_s, startup_s, active_s, phase):
    """Simulate the run with the autoscaler's clock ``phase`` seconds ahead of the watch's."""
    template = render(settings)[-1]["spec"]["template"]
    predicted = simulate(
        parse_spec(template["metadata"]["annotations"]),
        ClosedLoop(tuple((at + phase, clients) for at, clients in schedule)),
        FixedServer(service_s),
        environment=Environment(
            gpus=3,
            startup=Startup(schedule_s=0, mount_s=0, load_s=startup_s, ready_s=0),
            drain_s=30 / TIME_SCALE,
            initial_ready=1,
            active_for_s=max(0.0, active_s - phase),
        ),
        duration_s=schedule[-1][0] + 60,
    )
    assert max(predicted.ready) == 3
    return list(zip(predicted.desired, predicted.ready, strict=True))[phase:]


def active_for(cluster, settings):
    """Return for how many seconds the revision has been Active."""
    labels = {SERVICE_LABEL: settings.service}
    (scaler,) = cluster.list(POD_AUTOSCALER, namespace=settings.namespace, labels=labels)
    since = datetime.fromisoformat(condition(scaler, "Active")["lastTransitionTime"])
    return (datetime.now(UTC) - since).total_seconds()


def load(cluster, settings, begin):
    """Load with few clients and then with more; return when that was, and all requests."""
    gateway = find(cluster, settings)
    server = Server(
        gateway.url, gateway.host, model=settings.served_model_name, timeout_s=settings.timeout_s
    )
    changes, requests = [], []

    def send(clients, seconds):
        found = run_load(
            server, clients=clients, seconds=seconds, prompt=PROMPT, max_tokens=ANSWER_TOKENS
        )
        # Clients take their time to start: the load began when its own clock did.
        began = time.monotonic() - begin - found.seconds
        changes.extend([(began + found.requests[0].start_s, clients), (began + seconds, -clients)])
        requests.extend(found.requests)

    base = Thread(target=send, args=(FEW, FEW_S + MANY_S))
    base.start()
    time.sleep(FEW_S)
    send(MANY - FEW, MANY_S)
    base.join()
    times, deltas = zip(*sorted(changes), strict=True)
    return tuple(zip(times, accumulate(deltas), strict=True)), requests


def compare(samples, predicted):
    """Return the smaller share of equal seconds, of desired and ready, and both as a table."""
    equal, lines = {"desired": 0, "ready": 0}, ["second: predicted desired/ready; sampled"]
    seconds = range(1, int(samples[-1].at_s) + 1)
    for second in seconds:
        near = [sample for sample in samples if abs(sample.at_s - second) <= SLACK_S]
        for name, value in zip(equal, predicted[second], strict=True):
            equal[name] += any(getattr(sample, name) == value for sample in near)
        sampled = " ".join(f"{sample.desired}/{sample.ready}" for sample in near)
        lines.append("{:>3}: {}/{}; ".format(second, *predicted[second]) + sampled)
    return min(equal.values()) / len(seconds), "\n".join(lines)
