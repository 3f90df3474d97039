"""A hostile participant: whatever one tries with a participant's credentials, it is refused."""

from __future__ import annotations

from typing import Any

import hostile_tries as tries
import pytest
from hostile_tries import CORE, KNATIVE, LEASES, P01, P02, TRIES, Try, within
from hostile_world import World, kept
from real_sandbox import eventually


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, Any]:
    return kept(world)


def test_there_are_enough_tries() -> None:
    assert len({one.id for one in TRIES}) == len(TRIES) >= 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", within(CORE, P01, "secrets/qwen-api-key"), 200),
        ("GET", within(CORE, P01, "configmaps/workshop"), 200),
        ("GET", within(CORE, P01, "pods"), 200),
        ("GET", within(KNATIVE, P01, "services"), 200),
        ("GET", within(LEASES, P01, "leases/gpu-slot"), 404),
        ("GET", "/version", 200),
    ],
)
def test_the_credentials_are_good(world: World, method: str, path: str, status: int) -> None:
    assert world.send("p01", method, path).status_code == status


@pytest.mark.parametrize("one", TRIES, ids=lambda one: one.id)
def test_a_try_at_the_api_server(world: World, before: dict[str, Any], one: Try) -> None:
    refused = world.tried("p01", one)
    assert (refused.status_code, refused.json().get("reason")) == (403, "Forbidden")
    if one.admin is not None:
        assert world.tried("admin", one).status_code == one.admin


# Through Knative's own objects, which a participant may write in their own namespace.
_HOST_PATH = [{"name": "v", "hostPath": {"path": "/"}}]
_CLAIM = [{"name": "v", "persistentVolumeClaim": {"claimName": P01, "readOnly": True}}]
_MOUNT = {"volumeMounts": [{"name": "v", "mountPath": "/x", "readOnly": True}]}
SERVICES = {
    "the node's disk": tries.service(container=_MOUNT, volumes=_HOST_PATH),
    "the node's network": tries.service(hostNetwork=True),
    "the node's processes": tries.service(hostPID=True),
    "a privileged container": tries.service(container={"securityContext": {"privileged": True}}),
    "more rights for a process": tries.service(
        container={"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
    ),
    "a node by name": tries.service(nodeName="gpu-node-1"),
    "a folder above the weights": tries.service(
        container={"volumeMounts": [{**_MOUNT["volumeMounts"][0], "subPath": "../other"}]},
        volumes=_CLAIM,
    ),
    "another's name": tries.service(f"qwen.{P02}"),
    "a port of the node": tries.service(
        container={"ports": [{"containerPort": 80, "hostPort": 80}]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SERVICES)
def test_a_service_that_wants_too_much(world: World, what: str) -> None:
    # By default what Knative's own schema has not is left out, with a warning.
    path = within(KNATIVE, P01, "services") + "?dryRun=All&fieldValidation=Strict"
    refused = world.send("p01", "POST", path, json=SERVICES[what])
    assert 400 <= refused.status_code < 500
    assert refused.json()["reason"] in ("BadRequest", "Forbidden", "Invalid")
    good = world.send("p01", "POST", path, json=tries.service())
    assert good.status_code == 201, good.text


def test_a_service_without_a_slot_gets_no_gpu(world: World) -> None:
    greedy = tries.service("greedy", container={"resources": {"limits": {"nvidia.com/gpu": "1"}}})
    path = within(KNATIVE, P01, "services")
    assert world.send("p01", "POST", path, json=greedy).status_code == 201
    try:
        said = eventually(lambda: _failed_create(world))
        assert "exceeded quota: workshop, requested: requests.nvidia.com/gpu=1" in said
        assert world.send("p01", "GET", within(CORE, P01, "pods")).json()["items"] == []
    finally:
        world.send("p01", "DELETE", f"{path}/greedy")


def _failed_create(world: World) -> str:
    found = world.send("admin", "GET", within(CORE, P01, "events")).json()["items"]
    return next((one["message"] for one in found if one["reason"] == "FailedCreate"), "")


def test_nothing_has_changed(world: World, before: dict[str, Any]) -> None:
    assert kept(world) == before
