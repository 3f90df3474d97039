"""Server-side apply: who owns what, what conflicts, what goes when nobody wants it any more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.writes import fieldsets
from qwenkit.sandbox.kube.writes.server_side_apply import server_side_apply, track

KINDS = Kinds()
T1, T2 = "2026-08-01T12:00:00Z", "2026-08-01T12:00:01Z"


def config_map(**data: str) -> dict[str, Any]:
    metadata = {"name": "m", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def ksvc(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "qwen", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": list(containers), **spec}}},
    }


def applied(
    live: Any, config: Any, manager: str = "qwenkit", *, kind: str = "ConfigMap", **how: Any
) -> Any:
    how = {"force": False, "now": T1} | how
    return server_side_apply(KINDS[kind], live, config, manager=manager, **how)


def owned(obj: Any) -> dict[str, Any]:
    return {e["manager"]: e["fieldsV1"] for e in obj["metadata"].get("managedFields", [])}


def test_an_apply_owns_what_it_names() -> None:
    made = applied(None, config_map(a="1"))
    assert made["metadata"]["managedFields"] == [
        {
            "manager": "qwenkit",
            "operation": "Apply",
            "apiVersion": "v1",
            "time": T1,
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {"f:a": {}}},
        }
    ]


def test_the_same_again_changes_nothing() -> None:
    made = applied(None, config_map(a="1"))
    assert applied(made, config_map(a="1"), now=T2) == made


def test_a_field_no_longer_named_goes() -> None:
    made = applied(None, config_map(a="1", b="2"))
    assert applied(made, config_map(b="2"))["data"] == {"b": "2"}


def test_a_field_of_two_managers_stays_until_both_drop_it() -> None:
    both = applied(applied(None, config_map(a="1")), config_map(a="1"), "other")
    one = applied(both, config_map(b="2"))
    assert one["data"] == {"a": "1", "b": "2"}
    assert applied(one, config_map(), "other")["data"] == {"b": "2"}


def test_another_value_conflicts_and_force_takes_over() -> None:
    live = applied(None, config_map(a="1", b="1"))
    with pytest.raises(ApiError) as refused:
        applied(live, config_map(a="2", b="2"), "other")
    assert refused.value.status == 409
    assert refused.value.message == (
        'Apply failed with 2 conflicts: conflicts with "qwenkit":\n- .data.a\n- .data.b'
    )
    assert refused.value.details["causes"][0] == {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "qwenkit"',
        "field": ".data.a",
    }
    taken = applied(live, config_map(a="2"), "other", force=True)
    assert taken["data"] == {"a": "2", "b": "1"}
    assert owned(taken) == {
        "qwenkit": {"f:data": {"f:b": {}}},
        "other": {"f:data": {"f:a": {}}},
    }


def test_an_update_takes_what_it_changes() -> None:
    live = applied(None, config_map(a="1", b="1"))
    new = {**live, "data": {"a": "2"}}
    edited = track(KINDS["ConfigMap"], live, new, manager="kubectl-edit", now=T2)
    assert owned(edited) == {"kubectl-edit": {"f:data": {"f:a": {}}}}
    with pytest.raises(ApiError) as refused:
        applied(edited, config_map(a="1"))
    assert refused.value.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-edit" using v1: .data.a'
    )


def test_keyed_lists_merge_and_containers_of_knative_do_not() -> None:
    container = {"name": "c", "image": "i"}
    volume, other = {"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}
    live = applied(None, ksvc(container, volumes=[volume]), kind="KnativeService")
    merged = applied(
        live,
        {**ksvc(), "spec": {"template": {"spec": {"volumes": [other]}}}},
        "other",
        kind="KnativeService",
    )
    assert merged["spec"]["template"]["spec"]["volumes"] == [other, volume]
    with pytest.raises(ApiError, match=r"\.spec\.template\.spec\.containers$"):
        applied(live, ksvc({"name": "c", "image": "other"}), "other", kind="KnativeService")


def test_an_item_goes_with_its_last_owner() -> None:
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]},
    }
    live = applied(None, pod, kind="Pod")
    live["spec"]["containers"][1]["imagePullPolicy"] = "Always"
    fewer = {**pod, "spec": {"containers": pod["spec"]["containers"][:1]}}
    assert applied(live, fewer, kind="Pod")["spec"] == fewer["spec"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            ksvc({"name": "c", "imge": "i"}),
            "failed to create typed patch object (default/qwen; serving.knative.dev/v1, "
            "Kind=Service): .spec.template.spec.containers[0].imge: "
            "field not declared in schema",
        ),
        (
            ksvc(volumes=[{"name": "v"}, {"name": "v"}]),
            "failed to create typed patch object (default/qwen; serving.knative.dev/v1, "
            'Kind=Service): .spec.template.spec.volumes: duplicate entries for key [name="v"]',
        ),
    ],
)
def test_what_cannot_be_typed(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError) as refused:
        applied(None, config, kind="KnativeService")
    assert (refused.value.status, refused.value.message) == (500, message)


def test_a_status_has_its_own_entry() -> None:
    kind = KINDS["KnativeService"]
    live = track(kind, None, ksvc({"name": "c"}), manager="m", now=T1)
    new = {**live, "status": {"url": "u"}}
    told = track(kind, live, new, manager="m", now=T1, subresource="status")
    entries = [(e.get("subresource"), e["fieldsV1"]) for e in told["metadata"]["managedFields"]]
    assert entries == [
        (None, {"f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}}),
        ("status", {"f:status": {"f:url": {}}}),
    ]


DATA = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), max_size=4)


@settings(deadline=None)
@given(DATA)
def test_an_encoded_set_is_the_same_set(data: dict[str, str]) -> None:
    containers = [{"name": key, "image": value} for key, value in data.items()]
    pod = {"metadata": {"labels": data}, "spec": {"containers": containers}}
    paths = frozenset(fieldsets.leaves(KINDS["Pod"], pod))
    assert fieldsets.decode(fieldsets.encode(paths)) == paths


@settings(deadline=None)
@given(st.lists(DATA, min_size=1, max_size=5))
def test_one_manager_gets_exactly_what_it_applied_last(configs: list[dict[str, str]]) -> None:
    live = None
    for data in configs:
        live = applied(live, config_map(**data))
        assert live.get("data", {}) == data


@settings(deadline=None)
@given(DATA, DATA, DATA)
def test_forced_managers_share_and_lose_nothing_of_the_others(
    first: dict[str, str], second: dict[str, str], third: dict[str, str]
) -> None:
    live = applied(None, config_map(**first), "a")
    live = applied(live, config_map(**second), "b", force=True)
    assert live.get("data", {}) == first | second
    live = applied(live, config_map(**third), "b", force=True)
    # What b took from a by force belongs to nobody once b drops it.
    kept = {k: v for k, v in first.items() if k not in second or second[k] == v}
    assert live.get("data", {}) == kept | third
