"""A container's environment from Secrets and ConfigMaps, in the kubelet's words where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from node_world import World, in_world, meta, until

from qwenkit.errors import NotReady
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kubelet import program
from qwenkit.sandbox.kubelet.environment import resolve

POD = {"name": "one", "namespace": "default", "labels": {"a.b/c": "7"}}


@pytest.fixture
def store() -> ObjectStore:
    made = ObjectStore(Kinds())
    made.create("Namespace", {"metadata": {"name": "default"}})
    made.create("Secret", meta("keys", stringData={"id": "an-id", "token": "t"}))
    made.create("ConfigMap", meta("rooms", data={"id": "a-room"}))
    return made


def secret_key(name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": "V", "valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}


def test_values_come_from_where_they_are_said_to(store: ObjectStore) -> None:
    room = {"name": "ROOM", "valueFrom": {"configMapKeyRef": {"name": "rooms", "key": "id"}}}
    env = [{"name": "PLAIN", "value": "p"}, {"name": "EMPTY"}, secret_key("keys", "id"), room]
    for name, path in {"N": "name", "L": "labels['a.b/c']", "A": "annotations['none']"}.items():
        env.append({"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.{path}"}}})
    source = [{"secretRef": {"name": "keys"}, "prefix": "S_"}, {"configMapRef": {"name": "rooms"}}]
    assert resolve(store, POD, {"env": env, "envFrom": source}) == {
        "S_id": "an-id",
        "S_token": "t",
        "id": "a-room",
        "PLAIN": "p",
        "EMPTY": "",
        "V": "an-id",
        "ROOM": "a-room",
        "N": "one",
        "L": "7",
        "A": "",
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"env": [secret_key("gone", "id")]}, 'secret "gone" not found'),
        ({"env": [secret_key("keys", "no")]}, "couldn't find key no in Secret default/keys"),
        ({"envFrom": [{"configMapRef": {"name": "gone"}}]}, 'configmap "gone" not found'),
    ],
)
def test_what_is_missing_is_named(store: ObjectStore, given: dict[str, Any], words: str) -> None:
    with pytest.raises(NotReady) as refused:
        resolve(store, POD, given)
    assert refused.value.what == words


def test_what_is_optional_may_be_missing(store: ObjectStore) -> None:
    env = [secret_key("gone", "id", optional=True), secret_key("keys", "no", optional=True)]
    assert resolve(store, POD, {"env": env}) == {}


def test_arguments_are_expanded_as_kubernetes_does_it() -> None:
    args = ["$(A)/b", "$$(A)", "$(NONE)", "$A", "100$"]
    container = {
        "image": "i",
        "command": ["qwenkit", "upload", *args],
        "env": [{"name": "A", "value": "a"}],
    }
    (step,) = program.read(container)
    assert (step.verb, step.args) == ("upload", ("a/b", "$(A)", "$(NONE)", "$A", "100$"))


def test_a_container_waits_for_the_secret_that_it_names(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        container = {
            "name": "main",
            "image": "docker.io/library/busybox:1",
            "command": ["sh", "-c", "echo $V; sleep infinity"],
            "env": [secret_key("late", "id")],
        }
        spec = {"nodeName": "lab", "containers": [container], "restartPolicy": "Never"}
        made.store.create("Pod", meta("one", spec=spec))
        waiting = {
            "reason": "CreateContainerConfigError",
            "message": 'secret "late" not found',
        }
        await until(lambda: made.container("one", "main").get("state") == {"waiting": waiting})
        assert made.status("one")["phase"] == "Pending"
        assert ("Failed", 'Error: secret "late" not found') in made.events("one")
        made.store.create("Secret", meta("late", stringData={"id": "at last"}))
        await until(lambda: "running" in made.container("one", "main")["state"])
        await until(lambda: made.node.logs("default", "one", "main") == "at last\n")

    in_world(tmp_path, test)


def test_a_node_without_programs_has_no_upload(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        container = {"name": "main", "image": "docker.io/a/b:1", "command": ["qwenkit", "upload"]}
        spec = {"nodeName": "lab", "containers": [container], "restartPolicy": "Never"}
        made.store.create("Pod", meta("one", spec=spec))
        await until(lambda: made.status("one")["phase"] == "Failed")
        assert made.container("one", "main")["state"]["terminated"]["exitCode"] == 127
        assert "executable file not found" in made.node.logs("default", "one", "main")

    in_world(tmp_path, test)
