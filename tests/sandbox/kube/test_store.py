"""The store's rules: versions, generations, finalizers, grace periods, history."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from qwenkit.errors import SandboxError
from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.storage.store import ObjectStore


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 8, 1, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> ObjectStore:
    store = ObjectStore(Kinds(), clock=clock)
    store.create("Namespace", {"metadata": {"name": "default"}})
    return store


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, **more}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return named(name, spec={"containers": [{"name": "c", "image": "i"}], **spec})


def types_since(store: ObjectStore, kind: str, revision: int) -> list[str]:
    return [change.type for change in store.changes_since(kind, revision)]


def test_a_new_object_gets_its_identity(store: ObjectStore) -> None:
    made = store.create("KnativeService", named("qwen", spec={}, status={"url": "forged"}))
    assert made["apiVersion"] == "serving.knative.dev/v1"
    assert made["kind"] == "Service"
    assert made["metadata"]["creationTimestamp"] == "2026-08-01T12:00:00Z"
    assert made["metadata"]["generation"] == 1
    assert made["metadata"]["resourceVersion"] == str(store.revision)
    assert len(made["metadata"]["uid"]) == 36
    assert "status" not in made


def test_returned_objects_are_copies(store: ObjectStore) -> None:
    made = store.create("ConfigMap", named("c", data={"a": "1"}))
    made["data"]["a"] = "changed"
    store.list("ConfigMap")[0]["data"]["a"] = "changed"
    assert store.get("ConfigMap", "default", "c")["data"] == {"a": "1"}


def test_generation_counts_spec_changes_only(store: ObjectStore) -> None:
    made = store.create("KnativeService", named("qwen", spec={"a": 1}))
    made["metadata"]["annotations"] = {"x": "y"}
    made = store.update("KnativeService", made)
    assert made["metadata"]["generation"] == 1
    made["spec"]["a"] = 2
    made = store.update("KnativeService", made)
    assert made["metadata"]["generation"] == 2
    made["status"] = {"url": "http://qwen"}
    made["spec"]["a"] = 3
    made = store.update_status("KnativeService", made)
    assert (made["spec"], made["status"]) == ({"a": 2}, {"url": "http://qwen"})
    assert made["metadata"]["generation"] == 2


def test_update_keeps_status_and_identity(store: ObjectStore) -> None:
    made = store.create("KnativeService", named("qwen", spec={}))
    store.update_status("KnativeService", {**made, "status": {"url": "u"}})
    changed = store.update("KnativeService", named("qwen", spec={"a": 1}, status={"url": "no"}))
    assert changed["status"] == {"url": "u"}
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]


def test_nothing_changed_is_no_change(store: ObjectStore) -> None:
    made = store.create("ConfigMap", named("c", data={"a": "1"}))
    before = store.revision
    assert store.update("ConfigMap", made) == made
    assert store.update("ConfigMap", named("c", data={"a": "1"})) == made
    assert store.revision == before


def test_stale_version_is_a_conflict(store: ObjectStore) -> None:
    made = store.create("ConfigMap", named("c", data={"a": "1"}))
    store.update("ConfigMap", {**made, "data": {"a": "2"}})
    with pytest.raises(ApiError) as refused:
        store.update("ConfigMap", {**made, "data": {"a": "3"}})
    assert refused.value.body() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'Operation cannot be fulfilled on configmaps "c": the object has been '
        "modified; please apply your changes to the latest version and try again",
        "reason": "Conflict",
        "details": {"name": "c", "kind": "configmaps"},
        "code": 409,
    }


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        (lambda s: s.get("Pod", "default", "x"), 404, 'pods "x" not found'),
        (
            lambda s: s.get("KnativeService", "default", "x"),
            404,
            'services.serving.knative.dev "x" not found',
        ),
        (
            lambda s: s.create("Namespace", {"metadata": {"name": "default"}}),
            409,
            'namespaces "default" already exists',
        ),
        (
            lambda s: s.create("ConfigMap", {"metadata": {"name": "c", "namespace": "no"}}),
            404,
            'namespaces "no" not found',
        ),
        (
            lambda s: s.create("ConfigMap", {"metadata": {"namespace": "default"}}),
            422,
            'ConfigMap "" is invalid: metadata.name: Required value: '
            "name or generateName is required",
        ),
    ],
)
def test_refusals_speak_as_the_api_does(
    store: ObjectStore, call: Any, status: int, message: str
) -> None:
    with pytest.raises(ApiError) as refused:
        call(store)
    assert (refused.value.status, refused.value.message) == (status, message)


def test_generated_names(store: ObjectStore) -> None:
    made = store.create("Event", {"metadata": {"generateName": "e-", "namespace": "default"}})
    assert made["metadata"]["name"].startswith("e-")
    assert len(made["metadata"]["name"]) == 7


def test_finalizers_hold_an_object(store: ObjectStore) -> None:
    made = store.create(
        "Route",
        {**named("r", spec={}), "metadata": {**named("r")["metadata"], "finalizers": ["f"]}},
    )
    since = store.revision
    waiting = store.delete("Route", "default", "r")
    assert waiting["metadata"]["deletionTimestamp"] == "2026-08-01T12:00:00Z"
    assert waiting["metadata"]["deletionGracePeriodSeconds"] == 0
    assert waiting["metadata"]["generation"] == made["metadata"]["generation"] + 1
    waiting["metadata"]["finalizers"] = []
    store.update("Route", waiting)
    assert store.find("Route", "default", "r") is None
    assert types_since(store, "Route", since) == ["MODIFIED", "DELETED"]


def test_a_pod_on_a_node_waits_for_its_kubelet(store: ObjectStore, clock: Clock) -> None:
    store.create("Pod", pod("p", nodeName="n", terminationGracePeriodSeconds=300))
    since = store.revision
    waiting = store.delete("Pod", "default", "p")
    assert waiting["metadata"]["deletionTimestamp"] == "2026-08-01T12:05:00Z"
    assert waiting["metadata"]["deletionGracePeriodSeconds"] == 300
    clock.now += timedelta(seconds=31)
    gone = store.delete("Pod", "default", "p", grace_seconds=0)
    assert gone["metadata"]["deletionTimestamp"] == "2026-08-01T12:00:31Z"
    assert gone["metadata"]["deletionGracePeriodSeconds"] == 0
    assert types_since(store, "Pod", since) == ["MODIFIED", "MODIFIED", "DELETED"]


def test_grace_defaults_to_thirty_seconds_and_only_shrinks(store: ObjectStore) -> None:
    store.create("Pod", pod("p", nodeName="n"))
    assert store.delete("Pod", "default", "p")["metadata"]["deletionGracePeriodSeconds"] == 30
    again = store.delete("Pod", "default", "p", grace_seconds=90)
    assert again["metadata"]["deletionGracePeriodSeconds"] == 30


def test_an_unscheduled_pod_goes_at_once(store: ObjectStore) -> None:
    store.create("Pod", pod("p"))
    store.delete("Pod", "default", "p")
    assert store.find("Pod", "default", "p") is None


def test_a_namespace_takes_its_content_along(store: ObjectStore) -> None:
    store.create("Namespace", {"metadata": {"name": "team"}})
    for kind, name in (("ConfigMap", "c"), ("KnativeService", "s")):
        store.create(kind, {"metadata": {"name": name, "namespace": "team"}})
    running = pod("p", nodeName="n")
    running["metadata"]["namespace"] = "team"
    store.create("Pod", running)
    store.delete("Namespace", None, "team")
    assert store.get("Namespace", None, "team")["status"]["phase"] == "Terminating"
    with pytest.raises(ApiError, match="because it is being terminated"):
        store.create("ConfigMap", {"metadata": {"name": "late", "namespace": "team"}})
    assert [store.list(kind, "team") for kind in ("ConfigMap", "KnativeService")] == [[], []]
    store.delete("Pod", "team", "p", grace_seconds=0)
    assert store.find("Namespace", None, "team") is None


def test_list_filters_and_looks_back(store: ObjectStore) -> None:
    for name in ("b", "a"):
        labelled = named(name)
        labelled["metadata"]["labels"] = {"app": name}
        store.create("ConfigMap", labelled)
    then = store.revision
    store.delete("ConfigMap", "default", "a")
    store.create("ConfigMap", named("c"))

    def names(**how: Any) -> list[str]:
        return [obj["metadata"]["name"] for obj in store.list("ConfigMap", **how)]

    assert names() == ["b", "c"]
    assert names(labels={"app": "b"}) == ["b"]
    assert names(namespace="other") == []
    assert names(at_revision=then) == ["a", "b"]


def test_history_has_a_window() -> None:
    store = ObjectStore(Kinds(), window=3)
    store.create("Namespace", {"metadata": {"name": "default"}})
    for number in range(4):
        store.create("ConfigMap", named(f"c{number}"))
    assert types_since(store, "ConfigMap", 2) == ["ADDED"] * 3
    with pytest.raises(ApiError) as gone:
        store.changes_since("ConfigMap", 1)
    assert (gone.value.status, gone.value.reason) == (410, "Expired")


def test_dry_run_changes_nothing(store: ObjectStore) -> None:
    before = store.revision
    made = store.create("ConfigMap", named("c"), dry_run=True)
    assert made["metadata"]["uid"]
    assert store.find("ConfigMap", "default", "c") is None
    store.delete("Namespace", None, "default", dry_run=True)
    assert store.find("Namespace", None, "default")
    assert store.revision == before


def test_subscription_sees_what_follows(store: ObjectStore) -> None:
    async def follow() -> list[tuple[str, str]]:
        subscription = store.subscribe({"ConfigMap"})
        store.create("Event", named("ignored"))
        made = store.create("ConfigMap", named("c", data={"a": "1"}))
        store.update("ConfigMap", {**made, "data": {"a": "2"}})
        store.delete("ConfigMap", "default", "c")
        seen = []
        async for change in subscription:
            seen.append((change.type, change.object["data"]["a"]))
            if change.type == "DELETED":
                subscription.close()
        return seen

    assert asyncio.run(follow()) == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_snapshot_round_trip(store: ObjectStore, tmp_path: Path) -> None:
    store.create("Secret", named("keys", stringData={"k": "v"}))
    path = tmp_path / "cluster.json"
    store.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    again = ObjectStore(Kinds())
    again.load(path)
    assert again.list("Secret") == store.list("Secret")
    assert again.revision == store.revision
    with pytest.raises(ApiError, match="too old"):
        again.changes_since("Secret", 1)
    path.write_text("{}")
    with pytest.raises(SandboxError, match="no snapshot"):
        again.load(path)
