"""Replicas are counted, watched on a load's clock, and rescaled by annotations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, Replay, connected, obj, status

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.scale import ReplicaWatch, change_scaling, replicas, wait_replicas
from qwenkit.errors import InvalidValue, NotFound, WaitTimeout

SERVICE = {"serving.knative.dev/service": "qwen"}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def test_replicas_are_counted_from_pods_and_autoscalers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay("zero-and-back", at=60)
    api.listed = lambda _kind: None
    with connected(api, tmp_path, monkeypatch) as cluster:
        now = replicas(cluster, "qwen")
        assert (now.desired, now.ready, now.starting, now.ending) == (1, 1, 0, 0)
        api.to(100)
        now = replicas(cluster, "qwen")
        assert (now.desired, now.ready, now.starting, now.ending) == (0, 0, 0, 1)
        assert wait_replicas(cluster, "qwen", at_most=0, timeout_s=1).value == now
        with pytest.raises(WaitTimeout, match="at least 1 ready") as caught:
            wait_replicas(cluster, "qwen", ready=1, timeout_s=0.2)
        assert "ending 1" in caught.value.why


def test_without_knative_no_number_of_replicas_is_reached(cluster: Cluster, api: Api) -> None:
    api.without = {"Service", "Configuration", "Revision", "Route", "PodAutoscaler"}
    with pytest.raises(NotFound) as caught:
        wait_replicas(cluster, "qwen", at_most=0, timeout_s=1)
    assert "install Knative Serving" in caught.value.fix


def test_samples_are_on_the_clock_of_a_load_that_began_later(cluster: Cluster, api: Api) -> None:
    with ReplicaWatch(cluster, "qwen", every_s=0.01) as watch:
        time.sleep(0.1)
        began = time.monotonic()
        time.sleep(0.1)
        api.add(obj("v1/Pod", "qwen-00001-x", labels=SERVICE, status=READY))
        time.sleep(0.1)
    ended_s = time.monotonic() - began
    samples = watch.samples(since=began)
    # The load begins with what was there, and a pod that is ready after 0.1 s is drawn there.
    assert (samples[0].at_s, samples[0].ready) == (0, 0)
    ready_s = next(sample.at_s for sample in samples if sample.ready)
    assert 0.05 < ready_s < ended_s
    times = [sample.at_s for sample in samples]
    assert times == sorted(times)
    # The same samples on the clock of a load that began 10 s earlier.
    assert watch.samples(since=began - 10)[-1].at_s == pytest.approx(times[-1] + 10)
    assert watch.error is None


def test_changing_the_scaling_makes_a_revision(cluster: Cluster, api: Api) -> None:
    def applied(service: dict[str, Any]) -> None:
        generation = service["metadata"]["generation"]
        name = f"qwen-0000{generation}"
        names = {"latestCreatedRevisionName": name, "latestReadyRevisionName": name}
        service["status"] = {"observedGeneration": generation, **names, **READY}

    api.applied = applied
    cluster.apply(obj(KSVC, "qwen", labels=OURS, spec={"template": {}}))
    changed = change_scaling(cluster, "qwen", {"target": "4"}, timeout_s=5)
    assert (changed.old_revision, changed.new_revision) == ("qwen-00001", "qwen-00002")
    service = api.get(KSVC, "qwen")
    assert service is not None
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"autoscaling.knative.dev/target": "4"}
    same = change_scaling(cluster, "qwen", {"autoscaling.knative.dev/target": "4"}, timeout_s=5)
    assert (same.old_revision, same.new_revision) == ("qwen-00002", "qwen-00002")
    with pytest.raises(InvalidValue, match="target"):
        change_scaling(cluster, "qwen", {"target": 4}, timeout_s=5)  # type: ignore[dict-item]


def test_a_watch_of_a_server_that_is_away_stops_with_the_reason(cluster: Cluster, api: Api) -> None:
    cluster.timeout_s = 0.3
    api.refuse = lambda *_: status(503, "ServiceUnavailable", "away")
    with ReplicaWatch(cluster, "qwen", every_s=0.01) as watch:
        time.sleep(0.1)
    assert watch.error is not None
    assert watch.error.why.startswith("away")
