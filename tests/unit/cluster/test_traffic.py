"""Where the traffic of a Service may be moved, and what a revision was made from."""

from __future__ import annotations

import pytest
from cluster_api import KSVC, OURS, Api, obj

from qwenkit.cluster.change.template import template_of
from qwenkit.cluster.change.traffic import STABLE, TrafficSwitch, split
from qwenkit.cluster.client import Cluster
from qwenkit.errors import Conflict


def test_only_our_own_pin_is_moved(cluster: Cluster, api: Api) -> None:
    spec = {"template": {}, "traffic": split("qwen-00001", 10)}
    api.add(obj(KSVC, "qwen", labels=OURS, spec=spec))
    switch = TrafficSwitch(cluster, "qwen", 1)
    assert switch.stable() == "qwen-00001"
    assert sum(target["percent"] for target in spec["traffic"]) == 100  # type: ignore[misc]
    spec["traffic"][0]["tag"] = "mine"  # type: ignore[index]
    api.add(obj(KSVC, "qwen", labels=OURS, spec=spec))
    with pytest.raises(Conflict, match="pinned by hand") as refused:
        switch.roll_back()
    assert refused.value.why == "qwen-00001 90 %"
    assert STABLE != "mine"


def test_a_service_that_follows_its_latest_has_nothing_to_roll_back(
    cluster: Cluster, api: Api
) -> None:
    api.add(obj(KSVC, "qwen", labels=OURS, spec={"template": {}}))
    assert TrafficSwitch(cluster, "qwen", 1).roll_back() == ""


def test_a_template_is_read_back_from_its_revision() -> None:
    own = {"autoscaling.knative.dev/target": "2", "serving.knative.dev/progress-deadline": "9s"}
    added = {"creator": "a", "routes": "qwen", "routingStateModified": "2026"}
    revision = {
        "metadata": {
            "annotations": own | {f"serving.knative.dev/{k}": v for k, v in added.items()},
            "labels": {"release": "qwen", "serving.knative.dev/service": "qwen"},
        },
        "spec": {"timeoutSeconds": 600},
    }
    template = template_of(revision)
    assert template["metadata"] == {"annotations": own, "labels": {"release": "qwen"}}
    assert template["spec"] == revision["spec"]
