"""A load beside its prediction: how well they agree, where they part, and what must be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_api import KSVC, Api, connected, obj
from hypothesis import given
from hypothesis import strategies as st
from inference_server import HOST, Vllm, serving

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.autoscaling.live_scaling import LiveScaling
from qwenkit.capacity.compare_run import agreement, first_parting
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.traffic import ClosedLoop, Lengths
from qwenkit.cluster.watching import ClusterSample, PodSample, Replicas
from qwenkit.errors import NotReady
from qwenkit.inference.client import Server
from qwenkit.inference.results import LoadRequest, LoadResult
from qwenkit.loadtest.comparison import Comparison, compare
from qwenkit.loadtest.figures import Yardstick
from qwenkit.loadtest.prediction import Alone, Prediction, load_seconds, predict
from qwenkit.loadtest.timeline import Timeline
from qwenkit.settings import Settings

DOCUMENTED = {PREFIX + "target": "2", PREFIX + "max-scale": "3", PREFIX + "window": "10s"}
LENGTHS = Lengths(1200, 32)
V100 = VllmServer("V100-16", "Qwen-7B-Chat-Int8", clock=10)
PREDICTED = Prediction(
    running=LiveScaling("new", DOCUMENTED, parse_spec(DOCUMENTED)),
    spec=parse_spec(DOCUMENTED),
    traffic=ClosedLoop(((0, 5), (16, 0)), LENGTHS),
    modelled=V100,
    server=V100,
    environment=Environment(gpus=3, startup_s=5, drain_s=3, initial_ready=1, active_for_s=5),
    alone=Alone(LENGTHS, *V100.alone(LENGTHS), clock=10),
    by=Yardstick(ttft_p95_s=3, cny_per_gpu_hour=26, clock=10),
    more_s=0,
    note="modelled",
)
RESULT = PREDICTED.result(30)
Steps = st.lists(st.integers(0, 3), min_size=1, max_size=60)


def pods(revision: str, ready: int, pending: int = 0) -> list[PodSample]:
    up = [
        PodSample(f"{revision}-{n}", revision, "Running", "", True, False, "node", 8080)
        for n in range(ready)
    ]
    reason = "Unschedulable"
    return up + [
        PodSample(f"{revision}-p{n}", revision, "Pending", reason, False, False, "", 8080)
        for n in range(pending)
    ]


def samples(
    ready: Sequence[int], desired: Sequence[int], *, others: int = 0, pending: bool = False
) -> list[ClusterSample]:
    found = []
    for second, (up, wanted) in enumerate(zip(ready, desired, strict=True)):
        waits = max(0, wanted - up) if pending else 0
        starting = 0 if pending else max(0, wanted - up)
        revisions = {"new": Replicas(desired=wanted, ready=up), "old": Replicas(ready=others)}
        all_pods = (*pods("new", up + starting, waits), *pods("old", others))
        found.append(ClusterSample(float(second), "new", revisions, all_pods))
    return found


def sent(ready: Sequence[int], *, told: bool = True) -> tuple[LoadRequest, ...]:
    """The simulated requests as if they had been sent; each ready pod answers in turn."""
    columns = RESULT.requests
    rows = zip(columns.at, columns.latency_s, columns.ttft_s, strict=True)
    return tuple(
        LoadRequest(
            number=number,
            scheduled_s=at,
            sent_s=at,
            first_byte_s=at + ttft,
            first_s=at + ttft,
            last_s=at + latency,
            end_s=at + latency,
            token_s=(),
            status=200,
            outcome="ok",
            why="",
            prompt_tokens=1200,
            tokens=32,
            pod=f"new-{number % max(1, ready[int(at)])}" if told else "",
        )
        for number, (at, latency, ttft) in enumerate(sorted(rows))
    )


def compared(
    ready: Sequence[int] = RESULT.ready,
    desired: Sequence[int] = RESULT.desired,
    *,
    told: bool = True,
    others: int = 0,
    pending: bool = False,
) -> Comparison:
    load = LoadResult(sent(ready, told=told), 16.2, began=0.0, clock=10)
    seen = Timeline(load, samples(ready, desired, others=others, pending=pending))
    return compare(PREDICTED, seen, min_scale=0, most=3)


@given(Steps, st.integers(-2, 2))
def test_samples_that_are_up_to_two_seconds_off_agree(steps: list[int], off: int) -> None:
    predicted = [steps[0]] * 3 + steps + [steps[-1]] * 3
    last = len(predicted) - 1
    seen = [(float(at), predicted[min(max(at + off, 0), last)]) for at in range(last + 1)]
    assert first_parting(predicted, seen) is None
    assert agreement(predicted, seen) == 1


@given(Steps, Steps)
def test_they_part_at_the_first_second_that_does_not_agree(
    predicted: list[int], seen: list[int]
) -> None:
    last = min(len(predicted), len(seen))
    shown = [(float(at), seen[at]) for at in range(last)]
    parts = first_parting(predicted, shown)
    near = [set(seen[max(0, at - 2) : min(last, at + 3)]) for at in range(last)]
    wrong = [at for at in range(1, last) if predicted[at] not in near[at]]
    assert parts == (wrong[0] if wrong else None)
    if last > 1:
        assert agreement(predicted, shown) == pytest.approx(1 - len(wrong) / (last - 1))


def test_what_was_predicted_has_no_problem() -> None:
    found = compared()
    assert (found.start_ready, found.peak_ready, found.final_ready) == (1, 3, 0)
    assert (found.agreement_percent, found.parts_at_s, found.problems) == (100, None, ())
    for name, value in found.predicted.items():
        assert found.measured[name] == pytest.approx(value, rel=0.15), name
    before, after = found.latency_fell or (0, 0)
    assert after < 0.7 * before
    assert compared(told=False).problems == (), "where nothing tells, readiness alone counts"


def test_a_late_replica_is_explained() -> None:
    late = [min(up, 2) if second < 13 else up for second, up in enumerate(RESULT.ready)]
    found = compared(late)
    assert found.parts_at_s == 8
    assert found.agreement_percent < 100
    assert found.parts_why == "replica 3 was ready at 13 s instead of at 8 s: asked for at 2 s"
    assert "waited for a GPU" in compared(late, pending=True).parts_why
    slow = [1 if second < 9 else wanted for second, wanted in enumerate(RESULT.desired)]
    later = [1 if second < 14 else up for second, up in enumerate(RESULT.ready)]
    assert compared(later, slow).parts_why == "desired replicas rose to 2 at 9 s instead of at 2 s"


def test_replicas_that_stay_are_explained_and_are_a_problem() -> None:
    stay = [max(1, up) for up in RESULT.ready]
    found = compared(stay)
    assert found.parts_why == "replicas fell to 0 never instead of at 28 s"
    assert found.problems == ("at the end 1 replicas were ready, not min_scale=0",)


def test_a_pod_of_another_revision_that_holds_the_third_gpu_is_named() -> None:
    two = [min(2, up) for up in RESULT.ready]
    (problem,) = compared(two, others=1, pending=True).problems
    assert problem.startswith("only 2 of 3 replicas became ready: new-p0 waited for a GPU")
    assert "old-0 of revision old" in problem
    assert "kubectl delete pod old-0" in problem
    alone = compared(two, pending=True)
    assert alone.peak_ready == 2
    assert "revision" not in alone.problems[0]


def test_each_replica_must_have_answered_and_latency_must_have_fallen() -> None:
    load = LoadResult(
        tuple(replace(one, pod="new-0") for one in sent(RESULT.ready)), 16.2, 0.0, clock=10
    )
    seen = Timeline(load, samples(RESULT.ready, RESULT.desired))
    found = compare(PREDICTED, seen, min_scale=0, most=3)
    assert found.problems == ("only 1 of 3 pods answered before the last request was sent",)
    slow = [replace(one, end_s=one.end_s + (0.5 if one.sent_s > 8 else 0)) for one in load.requests]
    failed = replace(slow[0], outcome="failed", why="http 503")
    worse = replace(load, requests=(failed, *slow[1:]))
    found = compare(PREDICTED, Timeline(worse, seen.cluster), min_scale=0, most=3)
    assert found.problems[0] == "1 requests failed or were cancelled: http 503"
    assert any(problem.startswith("latency did not fall") for problem in found.problems)
    shared = replace(PREDICTED, by=replace(PREDICTED.by, gpus=0))  # replicas share a node's CPUs
    found = compare(shared, Timeline(worse, seen.cluster), min_scale=0, most=3)
    assert not any(problem.startswith("latency did not fall") for problem in found.problems)


def test_what_the_cluster_did_not_tell_is_said() -> None:
    load = LoadResult(sent(RESULT.ready), 16.2, began=0.0, clock=10)
    told = samples(RESULT.ready, RESULT.desired)
    away = [ClusterSample(sample.at_s, error="ksvc qwen is gone") for sample in told]
    early = compare(PREDICTED, Timeline(load, away[:9] + told[9:]), min_scale=0, most=3)
    assert early.parts_why == "the cluster did not answer: ksvc qwen is gone"
    late = compare(PREDICTED, Timeline(load, told[:20] + away[20:]), min_scale=0, most=3)
    assert late.problems == ("what is left at the end is not known: ksvc qwen is gone",)


@pytest.mark.parametrize(
    ("revision", "problems"),
    [("new", ()), ("old", ("only 2 of 3 pods answered before the last request was sent",))],
)
def test_replicas_that_were_there_from_the_start_must_answer_too(
    revision: str, problems: tuple[str, ...]
) -> None:
    three = [3] * len(RESULT.ready)
    requests = (
        replace(one, revision=revision if one.pod == "new-2" else "new") for one in sent(three)
    )
    seen = Timeline(LoadResult(tuple(requests), 16.2, 0.0), samples(three, three))
    assert compare(PREDICTED, seen, min_scale=3, most=3).problems == problems


def test_latency_cannot_fall_where_requests_never_slowed_each_other_down() -> None:
    fixed = tuple(replace(one, end_s=one.sent_s + 0.3) for one in sent(RESULT.ready))
    seen = Timeline(LoadResult(fixed, 16.2, 0.0), samples(RESULT.ready, RESULT.desired))
    for alone_s, count in ((0.3, 0), (0.2, 1)):
        predicted = replace(PREDICTED, alone=replace(PREDICTED.alone, latency_s=alone_s))
        found = compare(predicted, seen, min_scale=0, most=3)
        assert len(found.problems) == count, found.problems
        assert ("nothing was to fall" in str(found)) == (not count)


def test_the_recommended_setting_costs_less_and_is_said_in_a_sentence() -> None:
    _, wanted = PREDICTED.recommended()
    cheaper = PREDICTED.under(wanted)
    assert float(wanted[PREFIX + "target"]) > PREDICTED.spec.target
    assert cheaper.spec.stable_window_s == 10, "what is not asked for stays"
    now, then = PREDICTED.figures(), cheaper.figures()
    assert then["cny_per_million_tokens"] < 0.9 * now["cny_per_million_tokens"]
    assert then["max_ready"] < now["max_ready"] == 3
    both = compared().beside(replace(compared(), measured=then))
    assert "GPU-seconds -" in str(both)
    assert {len(row) for row in both.rows} == {len(both.columns)}
    name, predicted, measured, *_ = both.rows[1]
    assert (name, predicted[:6], " to " in measured) == ("TTFT p95", "about ", False)
    assert PREDICTED.advice()


@pytest.mark.parametrize(("cold_s", "lasts_s"), [(0.5, 16), (5, 16), (50, 125)])
def test_a_load_lasts_longer_than_a_cold_start(cold_s: float, lasts_s: float) -> None:
    assert load_seconds(cold_s) == lasts_s


@pytest.fixture
def api() -> Api:
    """A service on a cluster without GPUs, with one ready pod."""
    api = Api()
    api.add(obj(KSVC, "qwen", status={"latestReadyRevisionName": "r"}))
    revision = obj("serving.knative.dev/v1/Revision", "r", spec={})
    revision["metadata"]["annotations"] = DOCUMENTED
    api.add(revision)
    return api


def pod_of(revision: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-27T10:00:12Z"}
    running = {"running": {"startedAt": "2026-11-27T10:00:03Z"}}
    started = {"name": "user-container", "restartCount": 0, "state": running}
    pod = obj(
        "v1/Pod",
        "pod",
        labels={"serving.knative.dev/revision": revision},
        spec={"containers": [{"name": "user-container"}], "nodeName": "n"},
        status={"phase": "Running", "conditions": [ready], "containerStatuses": [started]},
    )
    pod["metadata"]["creationTimestamp"] = "2026-11-27T10:00:02Z"
    return pod


def test_what_is_measured_of_the_cluster_is_of_one_start_and_of_pods_that_stay(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second pod drains, a third has been evicted; the first was restarted after an hour."""
    limits = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
    for name, more in (("a", {}), ("b", {"deletionTimestamp": "2026-11-27T11:00:00Z"}), ("c", {})):
        pod = pod_of("r")
        pod["metadata"] |= {"name": name} | more
        pod["spec"]["containers"][0] |= limits
        api.add(pod)
    stays, evicted = api.objects["v1/Pod", "default", "a"], api.objects["v1/Pod", "default", "c"]
    evicted["status"] = {"phase": "Failed"}
    ready = [{"type": "Ready", "status": "True"}]
    state = {"allocatable": {"nvidia.com/gpu": "3"}, "conditions": ready}
    api.add(obj("v1/Node", "n", status=state))
    vllm, estimated = Vllm(), Settings().cold_start.seconds.value
    with connected(api, tmp_path, monkeypatch) as cluster, serving(vllm) as url:
        server = Server(url, HOST, model="qwen")
        assert predict(Settings(), cluster, server).environment.gpus == 3
        stays["status"]["conditions"][0]["lastTransitionTime"] = "2026-11-27T11:00:12Z"
        assert predict(Settings(), cluster, server).environment.startup_s == estimated
        stays["status"]["containerStatuses"][0]["restartCount"] = 1
        stays["status"]["conditions"][0]["lastTransitionTime"] = "2026-11-27T10:05:12Z"
        assert predict(Settings(), cluster, server).environment.startup_s == estimated


def test_a_server_on_a_cpu_is_predicted_at_the_speed_that_it_shows(
    api, tmp_path, monkeypatch
) -> None:
    vllm, s = Vllm(), Settings(gpu_count=0)
    vllm.delay_s = 0.005
    with connected(api, tmp_path, monkeypatch) as cluster, serving(vllm) as url:
        server = Server(url, HOST, model="qwen")
        with pytest.raises(NotReady, match="no ready pod"):
            predict(s, cluster, server)
        api.add(pod_of("r"))
        found = predict(s, cluster, server)
        scaled = predict(Settings(), cluster, server)
        vllm.status = 503
        with pytest.raises(NotReady, match="did not answer"):
            predict(s, cluster, server)
    assert found.environment.gpus is None
    assert found.environment.startup_s == 10
    assert found.alone.clock == 1
    assert "Qwen-7B-Chat-Int8 on CPU" in found.note
    figures = found.figures()
    assert figures["max_ready"] == 3
    assert figures["cost_cny"] == 0
    assert figures["ttft_p50_s"] >= 0.9 * found.alone.ttft_s
    assert "the prediction is scaled to that" in scaled.note
    assert scaled.figures()["ttft_p50_s"] >= 0.9 * scaled.alone.ttft_s
