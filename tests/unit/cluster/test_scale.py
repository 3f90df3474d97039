"""Replicas are counted, waited for and rescaled by annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, Replay, connected, obj

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.scale import replicas, wait_replicas
from qwenkit.cluster.scaling_change import change_scaling
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
