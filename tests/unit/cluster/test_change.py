"""A change of the scaling is proposed with its price, applied, and taken back exactly."""

from __future__ import annotations

from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, merge, obj, status

from qwenkit.cluster.change.proposal import propose_change
from qwenkit.cluster.change.template import difference, patch_between
from qwenkit.cluster.client import Cluster
from qwenkit.errors import Conflict, InvalidValue, NotReady, Rejected

READY = {"conditions": [{"type": "Ready", "status": "True"}]}
PREFIX = "autoscaling.knative.dev/"
GPU = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}


def reconciled(service: dict[str, Any]) -> None:
    """Make the newest template's revision ready at once, as Knative does after a while."""
    generation = service["metadata"]["generation"]
    name = f"{service['metadata']['name']}-{generation:05d}"
    names = {"latestCreatedRevisionName": name, "latestReadyRevisionName": name}
    service["status"] = {"observedGeneration": generation, **names, **READY}


def serve(cluster: Cluster, api: Api, *, gpus: int, annotations: dict[str, str]) -> None:
    """Serve a Service whose one pod holds one GPU of a node."""
    api.applied = reconciled
    template = {"metadata": {"annotations": annotations}, "spec": GPU}
    cluster.apply(obj(KSVC, "qwen", labels=OURS, spec={"template": template}))
    api.add(obj("serving.knative.dev/v1/Configuration", "qwen"))
    node(api, "good", gpus)
    api.add(obj("v1/Pod", "qwen-00001-x", spec={"nodeName": "good", **GPU}, status={}))


def node(api: Api, name: str, gpus: int, *, ready: str = "True", cordoned: bool = False) -> None:
    held = {"conditions": [{"type": "Ready", "status": ready}]}
    held["allocatable"] = {"nvidia.com/gpu": str(gpus)}
    api.add(obj("v1/Node", name, spec={"unschedulable": cordoned}, status=held))


def template(api: Api) -> dict[str, Any]:
    service = api.get(KSVC, "qwen")
    assert service is not None
    found: dict[str, Any] = service["spec"]["template"]
    return found


def test_a_proposal_shows_what_changes_and_changes_nothing(cluster: Cluster, api: Api) -> None:
    serve(cluster, api, gpus=3, annotations={PREFIX + "target": "2", PREFIX + "min-scale": "1"})
    node(api, "cordoned", 8, cordoned=True)
    node(api, "lost", 8, ready="Unknown")
    # A pod of another namespace holds a GPU as well; one that has ended holds none.
    api.add(obj("v1/Pod", "other", namespace="b", spec={"nodeName": "good", **GPU}, status={}))
    ended = {"phase": "Succeeded"}
    api.add(obj("v1/Pod", "done", namespace="b", spec={"nodeName": "good", **GPU}, status=ended))
    change = propose_change(
        cluster,
        "qwen",
        {"target": "4", "min-scale": None, "window": "90s"},
        container_concurrency=8,
    )
    assert [str(each) for each in change.diff] == [
        "autoscaling.knative.dev/min-scale: 1 → unset",
        "autoscaling.knative.dev/target: 2 → 4",
        "autoscaling.knative.dev/window: unset → 90s",
        "containerConcurrency: unset → 8",
    ]
    assert (change.revision, change.next_revision) == ("qwen-00001", "qwen-00002")
    assert (change.pods, change.gpus_needed, str(change.gpus)) == (1, 1, "1 of 3 free")
    assert change.gpus.holders == ("default/qwen-00001-x holds 1", "b/other holds 1")
    assert template(api)["metadata"]["annotations"][PREFIX + "target"] == "2"


def test_changing_the_scaling_makes_a_revision(cluster: Cluster, api: Api) -> None:
    serve(cluster, api, gpus=2, annotations={})
    changed = propose_change(cluster, "qwen", {"target": "4"}).apply(timeout_s=5)
    assert (changed.old_revision, changed.new_revision) == ("qwen-00001", "qwen-00002")
    assert template(api)["metadata"]["annotations"] == {PREFIX + "target": "4"}
    same = propose_change(cluster, "qwen", {PREFIX + "target": "4"}).apply(timeout_s=5)
    assert (same.old_revision, same.new_revision) == ("qwen-00002", "qwen-00002")


@pytest.mark.parametrize(
    ("settings", "limit"), [({"target": 4}, None), ({"targte": "4"}, None), ({}, "4")]
)
def test_a_setting_that_cannot_be_is_refused_by_name(
    cluster: Cluster, api: Api, settings: Any, limit: Any
) -> None:
    serve(cluster, api, gpus=2, annotations={})
    with pytest.raises(InvalidValue, match=r"targ|containerConcurrency"):
        propose_change(cluster, "qwen", settings, container_concurrency=limit)


def test_a_proposal_that_is_no_longer_true_changes_nothing(cluster: Cluster, api: Api) -> None:
    serve(cluster, api, gpus=2, annotations={PREFIX + "target": "2"})
    change = propose_change(cluster, "qwen", {"target": "4"})
    propose_change(cluster, "qwen", {"target": "8"}).apply(timeout_s=5)
    with pytest.raises(Conflict, match="changed since") as caught:
        change.apply(timeout_s=5)
    assert caught.value.why == PREFIX + "target: 2 → 8"
    assert template(api)["metadata"]["annotations"] == {PREFIX + "target": "8"}


def test_undo_makes_a_new_revision_with_the_settings_of_before(cluster: Cluster, api: Api) -> None:
    before = {PREFIX + "target": "2", "example.com/keep": "me"}
    serve(cluster, api, gpus=2, annotations=before)
    settings = {"target": "4", "max-scale": "3"}
    changed = propose_change(cluster, "qwen", settings, container_concurrency=4).apply(timeout_s=5)
    assert template(api)["spec"]["containerConcurrency"] == 4
    back = changed.undo(timeout_s=5)
    assert (back.old_revision, back.new_revision) == ("qwen-00002", "qwen-00003")
    assert template(api)["metadata"]["annotations"] == before
    assert "containerConcurrency" not in template(api)["spec"]
    with pytest.raises(Conflict, match="changed since") as caught:
        changed.undo(timeout_s=5)
    assert "max-scale: 3 → unset" in caught.value.why
    assert template(api)["metadata"]["annotations"] == before


def test_without_a_free_gpu_nothing_is_changed_unless_asked(cluster: Cluster, api: Api) -> None:
    serve(cluster, api, gpus=2, annotations={PREFIX + "target": "2"})
    change = propose_change(cluster, "qwen", {"min-scale": "2"})
    with pytest.raises(NotReady, match="surge does not work now") as caught:
        change.apply(timeout_s=5)
    assert caught.value.why.endswith("GPUs: 2 needed, 1 of 2 free")
    assert caught.value.context["evidence"] == ("default/qwen-00001-x holds 1",)
    assert PREFIX + "min-scale" not in template(api)["metadata"]["annotations"]
    changed = change.apply("surge", timeout_s=5)
    assert changed.new_revision == "qwen-00002"
    node(api, "good", 1)
    with pytest.raises(NotReady, match="surge does not work now"):
        changed.undo(timeout_s=5)


def test_the_gpu_of_a_pod_that_ends_is_waited_for(cluster: Cluster, api: Api) -> None:
    serve(cluster, api, gpus=1, annotations={})
    pod = api.get("v1/Pod", "qwen-00001-x")
    assert pod is not None
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    change = propose_change(cluster, "qwen", {"target": "4"})
    assert str(change.gpus) == "0 of 1 free, 1 soon"
    assert change.mode().works


def test_pods_without_gpus_start_beside_each_other(cluster: Cluster, api: Api) -> None:
    api.applied = reconciled
    template = {"metadata": {"annotations": {}}, "spec": {"containers": [{"name": "cpu"}]}}
    cluster.apply(obj(KSVC, "qwen", labels=OURS, spec={"template": template}))
    node(api, "kind", 0)
    change = propose_change(cluster, "qwen", {"target": "4"})
    assert (change.pods, change.gpus_needed) == (1, 0)
    assert change.mode().works


def test_gpus_that_may_not_be_counted_stop_nothing(cluster: Cluster, api: Api) -> None:
    serve(cluster, api, gpus=1, annotations={})
    denied = status(403, "Forbidden", "nodes is forbidden")
    api.refuse = lambda _method, path, _body: denied if path.endswith("/nodes") else None
    change = propose_change(cluster, "qwen", {"target": "4"})
    assert "may not look" in str(change.gpus)
    assert change.mode().works


def test_what_is_not_ours_or_not_named_is_not_changed(cluster: Cluster, api: Api) -> None:
    serve(cluster, api, gpus=2, annotations={})
    api.add(obj(KSVC, "theirs", labels={}, spec={"template": {}}))
    with pytest.raises(Conflict, match="is not ours"):
        propose_change(cluster, "theirs", {"target": "4"})
    cluster.context = ""
    with pytest.raises(InvalidValue, match="context"):
        propose_change(cluster, "qwen", {"target": "4"})


def test_the_webhook_speaks_before_anything_is_changed(cluster: Cluster, api: Api) -> None:
    serve(cluster, api, gpus=2, annotations={})
    refused = status(400, "BadRequest", "admission webhook denied the request: must be a number")
    api.refuse = lambda method, _path, _body: refused if method == "PATCH" else None
    with pytest.raises(Rejected, match="patching ksvc qwen"):
        propose_change(cluster, "qwen", {"target": "many"})
    assert [query for method, _, query, _ in api.requests if method == "PATCH"][-1]["dryRun"]


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (["a", "--len", "4096"], ["a", "--len", "8192"], "args: --len 4096 → --len 8192"),
        (["--a", "&"], ["--a", "--b=1", "&"], "args: unset → --b=1"),
        (["x"], ["y"], "args: x → y"),
    ],
)
def test_of_a_command_line_the_flags_that_differ_are_shown(
    before: list[str], after: list[str], shown: str
) -> None:
    old, new = ({"spec": {"args": args}} for args in (before, after))
    assert list(map(str, difference(old, new))) == [shown]


def test_a_patch_between_two_templates_makes_the_one_of_the_other() -> None:
    old = {"metadata": {"annotations": {"a": "1", "b": "2"}}, "spec": {"x": [1], "y": {"z": 1}}}
    new = {"metadata": {"annotations": {"b": "3"}}, "spec": {"x": [1, 2], "w": {"v": 0}}}
    assert merge(old, patch_between(old, new)) == new
    assert patch_between(new, new) == {}
