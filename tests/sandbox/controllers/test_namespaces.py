"""What every namespace has without anybody asking, and that it is in nobody's way."""

from __future__ import annotations

from controllers_world import Stage, play

ACCOUNT, AUTHORITY = ("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")


def supplied(stage: Stage, namespace: str) -> bool:
    return all(stage.store.find(kind, namespace, name) for kind, name in (ACCOUNT, AUTHORITY))


def test_every_namespace_has_an_account_and_the_authority() -> None:
    async def scene(stage: Stage) -> None:
        stage.store.create("Namespace", {"metadata": {"name": "later"}})
        names = [one["metadata"]["name"] for one in stage.store.list("Namespace")]
        assert {"default", "kube-system", "later"} <= set(names)
        await stage.eventually(lambda: all(supplied(stage, name) for name in names))

    play(scene)


def test_what_is_deleted_or_changed_comes_back() -> None:
    async def scene(stage: Stage) -> None:
        await stage.eventually(lambda: supplied(stage, "default"))
        first = {
            kind: stage.store.get(kind, "default", name) for kind, name in (ACCOUNT, AUTHORITY)
        }
        for kind, name in (ACCOUNT, AUTHORITY):
            stage.store.delete(kind, "default", name)
        await stage.eventually(lambda: supplied(stage, "default"))
        kind, name = AUTHORITY
        changed = stage.store.get(kind, "default", name)
        assert changed["metadata"]["uid"] != first[kind]["metadata"]["uid"]
        stage.store.update(kind, changed | {"data": {"ca.crt": "mine"}})
        data = first[kind]["data"]
        await stage.eventually(lambda: stage.store.get(kind, "default", name)["data"] == data)

    play(scene)


def test_a_namespace_goes_with_them_also_while_a_pod_holds_it() -> None:
    async def scene(stage: Stage) -> None:
        stage.store.create("Namespace", {"metadata": {"name": "team"}})
        await stage.eventually(lambda: supplied(stage, "team"))
        pod = {"containers": [{"name": "c", "image": "x"}], "terminationGracePeriodSeconds": 30}
        stage.store.create("Pod", {"metadata": {"name": "p", "namespace": "team"}, "spec": pod})
        await stage.eventually(
            lambda: stage.store.get("Pod", "team", "p")["status"]["phase"] == "Running"
        )
        stage.store.delete("Namespace", None, "team")
        assert stage.store.find("Namespace", None, "team") is not None
        await stage.eventually(lambda: stage.store.find("Namespace", None, "team") is None)
        assert not stage.store.list("ServiceAccount", "team")

    play(scene)
