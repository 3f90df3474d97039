"""A watch samples revisions and pods, tells what it could not read, and always ends with now."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cluster_api import KSVC, Api, Replay, connected, obj, status

from qwenkit.cluster import watching
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.watching import ClusterSample, ClusterWatch, sample_cluster
from qwenkit.errors import NotFound

READY = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
SCALER = "autoscaling.internal.knative.dev/v1alpha1/PodAutoscaler"


def labels(revision: str) -> dict[str, str]:
    return {"serving.knative.dev/service": "qwen", "serving.knative.dev/revision": revision}


def pod(name: str, state: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    container = {"name": "user-container", "ports": [{"containerPort": 8080}]}
    made = obj(
        "v1/Pod", name, labels=labels(name[:10]), status=state, spec={"containers": [container]}
    )
    made["metadata"] |= metadata
    return made


@pytest.fixture
def service(api: Api) -> Api:
    traffic = [
        {"revisionName": "qwen-00001", "percent": 100},
        {"revisionName": "qwen-00002", "percent": 0, "tag": "next"},
    ]
    state = {"traffic": traffic, "latestReadyRevisionName": "qwen-00002"}
    api.add(obj(KSVC, "qwen", status=state))
    for name, desired in (("qwen-00001", 3), ("qwen-00002", -1)):
        scale = {"desiredScale": desired, "actualScale": 1}
        api.add(obj(SCALER, name, labels=labels(name), status=scale))
    return api


def test_a_sample_tells_the_revisions_apart(cluster: Cluster, service: Api) -> None:
    waiting = {"name": "user-container", "state": {"waiting": {"reason": "ContainerCreating"}}}
    service.add(pod("qwen-00001-a", READY))
    service.add(pod("qwen-00001-b", {"phase": "Pending", "containerStatuses": [waiting]}))
    service.add(pod("qwen-00001-c", {"phase": "Failed", "reason": "Evicted"}))
    service.add(pod("qwen-00002-d", READY, deletionTimestamp="2026-01-01T00:00:00Z"))
    now = sample_cluster(cluster, "qwen")
    assert now.serving == "qwen-00001"  # the traffic decides, not the newest
    assert str(now.served) == "desired 3, ready 1, starting 1, ending 0"
    assert str(now.revisions["qwen-00002"]) == "desired 0, ready 0, starting 0, ending 1"
    assert [(p.name[-1], p.phase, p.reason, p.ready, p.ending) for p in now.pods] == [
        ("a", "Running", "", True, False),
        ("b", "Pending", "ContainerCreating", False, False),
        ("d", "Running", "Terminating", False, True),
    ]
    assert {p.port for p in now.pods} == {8080}


def test_without_the_right_to_read_autoscalers_the_pods_tell(
    cluster: Cluster, service: Api
) -> None:
    refused = status(403, "Forbidden", "no podautoscalers")
    service.refuse = lambda _, path, __: refused if "podautoscalers" in path else None
    service.add(pod("qwen-00001-a", READY))
    service.add(pod("qwen-00001-b", {"phase": "Pending"}))
    now = sample_cluster(cluster, "qwen")
    assert str(now.served) == "desired 2, ready 1, starting 1, ending 0"


def test_a_recorded_service_goes_to_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = Replay("zero-and-back", at=60)
    api.listed = lambda _kind: None
    with connected(api, tmp_path, monkeypatch) as cluster:
        assert str(sample_cluster(cluster, "qwen").served) == (
            "desired 1, ready 1, starting 0, ending 0"
        )
        api.to(100)
        assert str(sample_cluster(cluster, "qwen").served) == (
            "desired 0, ready 0, starting 0, ending 1"
        )


def test_without_knative_there_is_nothing_to_watch(cluster: Cluster, api: Api) -> None:
    api.without = {"Service", "Configuration", "Revision", "Route", "PodAutoscaler"}
    with pytest.raises(NotFound) as caught:
        sample_cluster(cluster, "qwen")
    assert "install Knative Serving" in caught.value.fix


def test_without_traffic_the_latest_ready_revision_serves(cluster: Cluster, api: Api) -> None:
    api.add(obj(KSVC, "qwen", status={"latestReadyRevisionName": "qwen-00004"}))
    now = sample_cluster(cluster, "qwen")
    assert (now.serving, now.served.ready, now.pods) == ("qwen-00004", 0, ())


def test_the_last_sample_is_what_there_is_at_the_end(cluster: Cluster, service: Api) -> None:
    began = time.monotonic()
    with ClusterWatch(cluster, "qwen", every_s=60) as watch:
        service.add(pod("qwen-00001-a", READY))
    first, last = watch.samples(since=began)
    assert (first.served.ready, last.served.ready) == (0, 1)
    assert 0 < first.at_s < last.at_s < time.monotonic() - began
    later = watch.samples(since=began + 100)
    assert later[0].at_s == pytest.approx(first.at_s - 100)


def test_a_server_that_is_away_is_a_gap_and_no_end(
    cluster: Cluster, service: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LOOK_S", 0.1)
    refusal = status(503, "ServiceUnavailable", "away")
    with ClusterWatch(cluster, "qwen", every_s=0.01) as watch:
        service.refuse = lambda *_: refusal
        while not watch.newest.error:
            time.sleep(0.01)
        service.refuse = lambda *_: None
    samples = watch.samples()
    assert not samples[0].error
    gap = next(one for one in samples if one.error)
    assert gap.error.startswith("away")
    assert gap.revisions == {}
    assert (samples[-1].error, samples[-1].serving) == ("", "qwen-00001")


def test_a_long_watch_thins_its_older_half(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    def look(*_: object) -> ClusterSample:
        taken.append(time.monotonic())
        return ClusterSample(taken[-1])

    monkeypatch.setattr(watching, "_MOST", 8)
    monkeypatch.setattr(watching, "sample_cluster", look)
    with ClusterWatch(cluster, "qwen", every_s=0) as watch:
        while len(taken) < 30:
            time.sleep(0.001)
    times = [one.at_s for one in watch.samples()]
    assert len(times) <= 9
    assert times == sorted(times)
    assert (times[0], times[-1]) == (taken[0], taken[-1])
