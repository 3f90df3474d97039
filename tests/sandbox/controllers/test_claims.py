"""Who owns what by its labels: orphans are adopted, what no longer fits is let go and replaced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import paced
import pytest
from controllers_world import Stage

from qwenkit.sandbox.controllers.workloads.adoption import selects
from qwenkit.sandbox.kube.objects import Object

LABELS = {"app": "web"}


def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def whole() -> None:
        stage = Stage()
        stage.store.create("Deployment", deployment())
        async with stage.running():
            await stage.eventually(lambda: len(pods(stage)) == 2)
            await scene(stage)

    paced.run(whole())


def deployment() -> Object:
    template = {
        "metadata": {"labels": LABELS},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}


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
        await stage.eventually(lambda: stage.events("ReplicaSet", owner_name(first)) & deleted())
        assert len(pods(stage)) == 2

    def owner_name(pod: Object) -> str:
        name: str = pod["metadata"]["ownerReferences"][0]["name"]
        return name

    def deleted() -> set[tuple[str, str, str]]:
        return {("Normal", "SuccessfulDelete", "Deleted pod: more")}

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
        stage.store.update("Pod", {**released, "metadata": {**kept, "labels": dict_of(stage)}})
        await stage.eventually(lambda: len(pods(stage)) == 2 and orphans(stage) == set())

    def dict_of(stage: Stage) -> dict[str, str]:
        labels: dict[str, str] = pods(stage)[0]["metadata"]["labels"]
        return labels

    def orphans(stage: Stage) -> set[str]:
        return names([pod for pod in pods(stage) if not pod["metadata"].get("ownerReferences")])

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
