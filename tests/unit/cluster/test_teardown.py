from __future__ import annotations

from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, obj, status
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.teardown import TeardownStep, audit, teardown
from qwenkit.errors import WaitTimeout
from qwenkit.settings import Settings

SERVICE = {"serving.knative.dev/service": "qwen"}
PV, PVC = "v1/PersistentVolume", "v1/PersistentVolumeClaim"


def everything(labels: dict[str, str]) -> list[dict[str, Any]]:
    kinds = [("v1/Secret", "llm-model-oss"), (PV, "llm-model"), (PVC, "llm-model"), (KSVC, "qwen")]
    return [obj(kind, name, labels=labels, spec={}) for kind, name in kinds]


class Bucket:
    scope = ""

    def __init__(self) -> None:
        self.uploads, self.objects = 2, 5

    def abort_uploads(self) -> int:
        gone, self.uploads = self.uploads, 0
        return gone

    def delete_objects(self) -> int:
        gone, self.objects = self.objects, 0
        return gone

    def left(self, *, delete_weights: bool) -> tuple[list[str], list[str]]:
        uploads = [f"{self.uploads} unfinished uploads"] * bool(self.uploads)
        objects = [f"{self.objects} objects"] * bool(delete_weights and self.objects)
        return uploads + objects, ["1 old version"]


def deleted(api: Api) -> list[str]:
    return [path.split("/")[-2] for method, path, *_ in api.requests if method == "DELETE"]


def test_objects_are_removed_in_the_order_in_which_they_become_free(
    cluster: Cluster, api: Api
) -> None:
    for one in everything(OURS):
        api.add(one)
    steps: list[TeardownStep] = []
    report = teardown(cluster, Settings(), weights=Bucket(), on_step=steps.append)
    plurals = ["services", "persistentvolumeclaims", "persistentvolumes", "secrets"]
    assert deleted(api) == plurals
    assert api.objects == {}
    assert report.steps == tuple(steps)
    names = [step.name for step in report.steps if step.removed]
    kubernetes = ["ksvc qwen", "pvc llm-model", "pv llm-model", "secret llm-model-oss"]
    assert names == [*kubernetes, "unfinished uploads"]
    assert audit(cluster, Settings(), weights=Bucket()).found == ("2 unfinished uploads",)


def test_pods_must_be_gone_before_the_claim_goes(cluster: Cluster, api: Api) -> None:
    for one in everything(OURS):
        api.add(one)
    api.add(obj("v1/Pod", "qwen-00001-x", labels=SERVICE, spec={}))
    polls = 0

    def pods_listed(kind: str) -> None:
        nonlocal polls
        if kind == "v1/Pod":
            polls += 1
            assert "persistentvolumeclaims" not in deleted(api)
            if polls == 3:
                del api.objects["v1/Pod", "default", "qwen-00001-x"]

    api.listed = pods_listed
    teardown(cluster, Settings())
    assert polls >= 3
    assert api.objects == {}


def test_the_garbage_collector_is_waited_for(cluster: Cluster, api: Api) -> None:
    api.add(everything(OURS)[3])
    revision = api.add(obj(KSVC.replace("Service", "Revision"), "qwen-00001", labels=SERVICE))
    polls = 0

    def listed(kind: str) -> None:
        nonlocal polls
        polls += kind.endswith("/Revision")
        if polls == 3:
            api.objects.pop(("serving.knative.dev/v1/Revision", "default", "qwen-00001"), None)

    api.listed = listed
    teardown(cluster, Settings())
    assert polls >= 3
    assert revision not in api.objects.values()
    assert audit(cluster, Settings()).found == ()


@given(st.sets(st.integers(0, 3)))
@hypothesis_settings(
    max_examples=16, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_half_finished_run_is_cleaned_and_twice_is_once(
    cluster: Cluster, api: Api, present: set[int]
) -> None:
    api.objects.clear()
    for number in present:
        api.add(everything(OURS)[number])
    bucket = Bucket()
    settings = Settings(delete_weights=True)
    teardown(cluster, settings, weights=bucket)
    assert audit(cluster, settings, weights=bucket).found == ()
    again = teardown(cluster, settings, weights=bucket)
    assert not [step for step in again.steps if step.removed]


@pytest.mark.parametrize("labels", [{}, OURS | {"qwenkit.dev/run": "alice"}])
def test_objects_of_others_survive(cluster: Cluster, api: Api, labels: dict[str, str]) -> None:
    for one in everything(labels):
        api.add(one)
    api.add(obj("v1/Pod", "qwen-00001-x", labels=SERVICE, spec={}))
    before = str(api.objects)
    report = teardown(cluster, Settings())
    assert str(api.objects) == before
    assert deleted(api) == []
    assert [step.outcome for step in report.steps] == ["not ours, not touched"]
    assert audit(cluster, Settings()).found == ()


def test_the_same_run_s_volume_of_another_namespace_survives(cluster: Cluster, api: Api) -> None:
    claim = {"namespace": "student-7", "name": "llm-model"}
    api.add(obj(PV, "their-model", labels=OURS, spec={"claimRef": claim}))
    teardown(cluster, Settings())
    assert api.get("PersistentVolume", "their-model") is not None


def test_a_finalizer_that_stays_is_explained_and_kept(cluster: Cluster, api: Api) -> None:
    claim = api.add(obj(PVC, "llm-model", labels=OURS, spec={}))
    claim["metadata"]["finalizers"] = ["kubernetes.io/pvc-protection"]
    volumes = [{"name": "m", "persistentVolumeClaim": {"claimName": "llm-model"}}]
    api.add(obj("v1/Pod", "somebody", spec={"volumes": volumes}))
    with pytest.raises(WaitTimeout, match="pvc llm-model gone") as caught:
        teardown(cluster, Settings(teardown_timeout_s=0.2))
    assert "kubernetes.io/pvc-protection" in caught.value.why
    assert "somebody" in caught.value.why
    assert claim["metadata"]["finalizers"]
    assert "PATCH" not in {method for method, *_ in api.requests}


def test_weights_are_deleted_only_on_request(cluster: Cluster) -> None:
    bucket = Bucket()
    teardown(cluster, Settings(), weights=bucket)
    assert (bucket.uploads, bucket.objects) == (0, 5)
    assert audit(cluster, Settings(), weights=bucket).found == ()
    asked = Settings(delete_weights=True)
    leaks = audit(cluster, asked, weights=bucket)
    assert (leaks.found, leaks.unknown) == (("5 objects",), ("1 old version",))
    bucket.scope = "objects that this run uploaded"
    step = teardown(cluster, asked, weights=bucket).steps[-1]
    assert (step.removed, step.outcome) == (True, "deleted: 5 objects that this run uploaded")
    assert audit(cluster, asked, weights=bucket).found == ()


def test_the_audit_finds_every_kind(cluster: Cluster, api: Api) -> None:
    for one in everything(OURS):
        api.add(one)
    knative = "serving.knative.dev/v1/"
    for kind in (*(knative + k for k in ("Configuration", "Revision", "Route")), "v1/Pod"):
        api.add(obj(kind, "qwen-x", labels=SERVICE))
    api.add(obj("apps/v1/Deployment", "qwen-x", labels=SERVICE))
    assert set(audit(cluster, Settings()).found) == {
        "ksvc/qwen",
        "pvc/llm-model",
        "pv/llm-model",
        "secret/llm-model-oss",
        "configuration/qwen-x",
        "revision/qwen-x",
        "route/qwen-x",
        "deployment/qwen-x",
        "pod/qwen-x",
    }


def test_a_kind_that_may_not_be_listed_is_unknown(cluster: Cluster, api: Api) -> None:
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "no volumes for you") if "persistentvolumes" in path else None
    )
    leaks = audit(cluster, Settings())
    assert leaks.found == ()
    assert leaks.unknown == ("pv: may not look: no volumes for you",)
    assert "not allowed to read" in str(leaks)


def test_without_knative_the_rest_is_still_removed(cluster: Cluster, api: Api) -> None:
    api.without = {"Service", "Configuration", "Revision", "Route"}
    api.add(everything(OURS)[0])
    report = teardown(cluster, Settings())
    assert api.objects == {}
    assert "ksvc: none: Knative Serving is not installed" in str(report)
    assert audit(cluster, Settings()).found == ()


def test_without_the_right_to_list_volumes_the_rest_is_still_removed(
    cluster: Cluster, api: Api
) -> None:
    for one in everything(OURS):
        api.add(one)
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "persistentvolumes is forbidden")
        if path.endswith("/persistentvolumes")
        else None
    )
    steps = {step.name: step for step in teardown(cluster, Settings()).steps}
    assert not steps["pv"].removed
    assert "persistentvolumes is forbidden" in steps["pv"].outcome
    assert steps["secret llm-model-oss"].removed
    leaks = audit(cluster, Settings())
    assert (leaks.found, leaks.unknown) == (
        (),
        ("pv: may not look: persistentvolumes is forbidden",),
    )


def test_without_the_right_to_list_what_has_a_known_name_is_still_removed(
    cluster: Cluster, api: Api
) -> None:
    for one in everything(OURS):
        api.add(one)
    lists = ("/services", "/persistentvolumes", "/persistentvolumeclaims", "/secrets", "/pods")
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "no lists for you") if path.endswith(lists) else None
    )
    report = teardown(cluster, Settings())
    assert api.objects == {}
    assert "ksvc: may not look: no lists for you" in str(report)


def test_a_volume_of_the_same_run_elsewhere_stays_without_the_right_to_list(
    cluster: Cluster, api: Api
) -> None:
    claim = {"namespace": "team-b", "name": "llm-model"}
    api.add(obj(PV, "llm-model", labels=OURS, spec={"claimRef": claim}))
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "no") if path.endswith("/persistentvolumes") else None
    )
    teardown(cluster, Settings())
    assert len(api.objects) == 1
