"""Who owns what by its labels: orphans are adopted, what no longer fits is let go and replaced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import paced
import pytest
from controllers_world import Stage, workload

from qwenkit.sandbox.controllers.workloads.adoption import selects
from qwenkit.sandbox.kube.objects import Object

LABELS = {"app": "web"}


def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def whole() -> None:
        stage = Stage()
        stage.store.create("Deployment", workload("Deployment", "web", LABELS, 2))
        async with stage.running():
            await stage.eventually(lambda: len(pods(stage)) == 2)
            await scene(stage)

    paced.run(whole())


def pods(stage: Stage) -> list[Object]:
    found = stage.store.list("Pod", "default", LABELS)
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def names(found: list[Object]) -> set[str]:
    return {one["metadata"]["name"] for one in found}


def owners(found: list[Object]) -> set[str]:
    return {ref["uid"] for one in found for ref in one["metadata"].get("ownerReferences", [])}


def replica_set(stage: Stage) -> Object | None:
    return next(iter(stage.store.list("ReplicaSet", "default")), None)


def test_a_new_replica_set_adopts_the_pods_that_the_old_one_left() -> None:
    async def scene(stage: Stage) -> None:
        before, old = names(pods(stage)), replica_set(stage)
        assert old is not None
        uid = old["metadata"]["uid"]
        stage.store.delete("ReplicaSet", "default", old["metadata"]["name"], propagation="Orphan")

        def adopted() -> bool:
            new = replica_set(stage)
            return new is not None and owners(pods(stage)) == {new["metadata"]["uid"]} != {uid}

        await stage.eventually(adopted)
        await stage.eventually(lambda: (replica_set(stage) or {})["status"].get("replicas") == 2)
        assert names(stage.store.list("Pod", "default")) == before

    play(scene)


def test_one_orphan_too_many_goes() -> None:
    async def scene(stage: Stage) -> None:
        first = pods(stage)[0]
        more = {"name": "more", "namespace": "default", "labels": first["metadata"]["labels"]}
        stage.store.create(
            "Pod", {"metadata": more, "spec": {"containers": [{"name": "c", "image": "x"}]}}
        )
        owner = first["metadata"]["ownerReferences"][0]["name"]
        deleted = ("Normal", "SuccessfulDelete", "Deleted pod: more")
        await stage.eventually(lambda: deleted in stage.events("ReplicaSet", owner))
        assert len(pods(stage)) == 2

    play(scene)


def test_a_pod_whose_label_is_changed_runs_on_and_is_replaced() -> None:
    async def scene(stage: Stage) -> None:
        released = pods(stage)[0]
        name, uid = released["metadata"]["name"], released["metadata"]["uid"]
        released["metadata"]["labels"] |= {"app": "debug"}
        released["metadata"].pop("resourceVersion")
        stage.store.update("Pod", released)
        await stage.eventually(lambda: len(pods(stage)) == 2)
        kept = stage.store.get("Pod", "default", name)["metadata"]
        assert "ownerReferences" not in kept
        assert (kept["uid"], "deletionTimestamp" in kept) == (uid, False)
        # With its label back it is one too many again, and theirs.
        metadata = {**kept, "labels": pods(stage)[0]["metadata"]["labels"]}
        stage.store.update("Pod", {**released, "metadata": metadata})
        await stage.eventually(lambda: len(pods(stage)) == 2 and all(map(owned, pods(stage))))

    def owned(pod: Object) -> bool:
        return bool(pod["metadata"].get("ownerReferences"))

    play(scene)


@pytest.mark.parametrize(
    ("rule", "labels", "fits"),
    [
        ({"key": "a", "operator": "In", "values": ["1", "2"]}, {"a": "2"}, True),
        ({"key": "a", "operator": "In", "values": ["1", "2"]}, {}, False),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, {}, True),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, {"a": "1"}, False),
        ({"key": "a", "operator": "Exists"}, {"a": ""}, True),
        ({"key": "a", "operator": "DoesNotExist"}, {"a": ""}, False),
    ],
)
def test_expressions_select(rule: Object, labels: dict[str, str], fits: bool) -> None:
    assert selects({"matchExpressions": [rule]}, labels) is fits
    assert not selects({"matchLabels": {"b": "1"}, "matchExpressions": [rule]}, labels)
