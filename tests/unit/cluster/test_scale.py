"""Replicas are counted, waited for and rescaled by annotations."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster_api import Api, Replay, connected

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.scale import replicas, wait_replicas
from qwenkit.errors import NotFound, WaitTimeout

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
