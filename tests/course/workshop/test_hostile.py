"""A hostile participant: whatever one tries with a participant's credentials, it is refused."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile_tries as tries
import pytest
import requests
from hostile_tries import CORE, HOME, KNATIVE, LEASES, P01, P02, TRIES, Try, within
from oss_world import client as oss_client

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.gateway import api_key
from qwenkit.cluster.gpu_slot import ask_for
from qwenkit.in_cluster.weights import Weights
from qwenkit.sandbox import process, state_files
from qwenkit.settings import Settings
from qwenkit.steps import deploy
from qwenkit.workshop.access import access
from qwenkit.workshop.create import create
from qwenkit.workshop.description import Description, connect
from qwenkit.workshop.names import WorkshopName
from qwenkit.workshop.slots.keeper import Keeper
from qwenkit.workshop.slots.room import Room

NAME = WorkshopName("ws")
KEPT = [  # what a try may not change; the participant has rights on none of it
    *(within(CORE, P01, one) for one in ("resourcequotas/workshop", "configmaps/workshop")),
    *(within(CORE, P02, one) for one in ("resourcequotas/workshop", "secrets/qwen-api-key")),
    within(CORE, HOME, "configmaps/slots"),
    within(LEASES, P02, "leases/gpu-slot"),
    f"{CORE}/namespaces/{P01}",
]


@dataclass
class World:
    """A workshop of two, on one sandbox; the second participant's server runs."""

    root: Path
    api: str
    gateway: str
    tokens: dict[str, str]
    workshop: Description
    room: Room
    keys: dict[str, str]
    host: str

    def settings(self, number: int) -> Settings:
        who = self.workshop.participants[number - 1]
        return Settings(**self.workshop.parameters(who))

    def send(self, user: str, method: str, path: str, **how: Any) -> requests.Response:
        """Send a request to the API server as a user: ``admin``, or a participant."""
        how["headers"] = {"Authorization": f"Bearer {self.tokens[user]}", **how.get("headers", {})}
        return _sent(method, self.api + path, verify=str(self.root.with_name("ca.crt")), **how)

    def tried(self, user: str, one: Try) -> requests.Response:
        path, headers = one.path, dict(one.headers)
        if user == "admin" and one.method != "GET":
            path += ("&" if "?" in path else "?") + "dryRun=All"
        if one.body is not None:
            headers.setdefault("Content-Type", "application/json")
        data = None if one.body is None else json.dumps(one.body)
        return self.send(user, one.method, path, data=data, headers=headers)


def _sent(method: str, url: str, **how: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, url, timeout=30, **how)
        answer.content  # noqa: B018
        return answer


def _kubeconfig(path: Path) -> tuple[str, str]:
    """Return the token and the certificate of a kubeconfig."""
    from base64 import b64decode

    config = json.loads(path.read_text())
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    return config["users"][0]["user"]["token"], b64decode(authority).decode()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("hostile")
    root = folder / "root"
    options = state_files.SandboxOptions(gpus=2, time_scale=100)
    with ExitStack() as stack:
        _, state = stack.enter_context(process.attached(options, root))
        own = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in process.environment(root).items():
            own.setenv(name, value)
        settings = Settings.load()
        Weights.of(settings).upload()
        workshop = create(settings, NAME, ["<b>Ann</b>", ""], 1).workshop
        token, authority = _kubeconfig(root / "kubeconfig")
        (folder / "ca.crt").write_text(authority)
        tokens, files = {"admin": token}, [str(root / "kubeconfig")]
        with closing(connect(settings, NAME)) as cluster:
            for who in workshop.participants:
                files.append(str(folder / f"{who.id}.kubeconfig"))
                Path(files[-1]).write_text(access(cluster, workshop, who).kubeconfig)
                tokens[who.id] = _kubeconfig(Path(files[-1]))[0]
        own.setenv("KUBECONFIG", os.pathsep.join(files))
        room = Room.connect(settings, NAME)
        made = World(root, state.api, state.gateway, tokens, workshop, room, {}, "")
        second = made.settings(2)
        with closing(Cluster.connect(second)) as cluster:
            ask_for(cluster, second)
            Keeper(room).turn()
            made.host = deploy(second).host
            made.keys["p02"] = api_key(cluster, second)
        with closing(Cluster.connect(first := made.settings(1))) as cluster:
            made.keys["p01"] = api_key(cluster, first)
        yield made


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, Any]:
    return _kept(world)


def _kept(world: World) -> dict[str, Any]:
    found = {path: world.send("admin", "GET", path).json() for path in KEPT}
    return {
        path: [
            one["metadata"]["uid"],
            one["metadata"].get("labels"),
            one.get("spec"),
            one.get("data"),
        ]
        for path, one in found.items()
    }


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


# Through Knative's own objects, which a participant may write in his own namespace.
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
    "the weights for writing": tries.service(
        container={"volumeMounts": [{"name": "v", "mountPath": "/x", "readOnly": False}]},
        volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": P01}}],
    ),
    "another's name": tries.service(f"qwen.{P02}"),
    "a port of the node": tries.service(container={"ports": [{"containerPort": 80, "hostPort": 80}]}),
}  # fmt: skip


@pytest.mark.parametrize("what", SERVICES)
def test_a_service_that_wants_too_much(world: World, what: str) -> None:
    path = within(KNATIVE, P01, "services") + "?dryRun=All"
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
        said = _eventually(lambda: _failed_create(world))
        assert "exceeded quota: workshop, requested: requests.nvidia.com/gpu=1" in said
        assert world.send("p01", "GET", within(CORE, P01, "pods")).json()["items"] == []
    finally:
        world.send("p01", "DELETE", f"{path}/greedy")


def _failed_create(world: World) -> str:
    found = world.send("admin", "GET", within(CORE, P01, "events")).json()["items"]
    return next((one["message"] for one in found if one["reason"] == "FailedCreate"), "")


def _eventually(what: Any) -> Any:
    deadline = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


# At the gateway: the host of the other participant's server, with any key but his.
_ASK = {"model": "qwen", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
GATEWAY = {
    "no key": {},
    "one's own key": {"Authorization": "Bearer {p01}"},
    "an empty key": {"Authorization": "Bearer "},
    "a key of blanks": {"Authorization": "Bearer    "},
    "another scheme": {"Authorization": "Basic {p01}"},
    "no scheme": {"Authorization": "{p01}"},
    "the API server's token": {"Authorization": "Bearer {token}"},
    "another header": {"X-Api-Key": "{p01}"},
    "a cookie": {"Cookie": "Authorization=Bearer {p01}"},
    "a forwarded host": {"Authorization": "Bearer {p01}", "X-Forwarded-Host": "{own}"},
    "a tag": {"Authorization": "Bearer {p01}", "Knative-Serving-Tag": "candidate"},
    "the proxy's headers": {"K-Network-Probe": "queue", "Knative-Serving-Revision": "qwen-00001"},
}
HOSTS = ["{host}", "{host}:80", "{upper}", "{host}."]
UNKNOWN = ["qwen.{p}.svc.cluster.local", "qwen.{p}.svc", "qwen.{p}", "qwen-00001.{p}.example.com"]


def _asked(world: World, host: str, headers: dict[str, str], path: str) -> requests.Response:
    own = world.host.replace(P02, P01)
    words = world.keys | {"token": world.tokens["p01"], "own": own}
    filled = {name: value.format(**words) for name, value in headers.items()}
    return _sent("POST", world.gateway + path, json=_ASK, headers=filled | {"Host": host})


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/models"])
@pytest.mark.parametrize("how", GATEWAY)
def test_anothers_server_wants_its_key(world: World, how: str, path: str) -> None:
    answer = _asked(world, world.host, GATEWAY[how], path)
    assert (answer.status_code, "choices" in answer.text) in ((401, False), (400, False))


@pytest.mark.parametrize("host", HOSTS)
def test_another_spelling_of_its_host_is_no_way_round(world: World, host: str) -> None:
    host = host.format(host=world.host, upper=world.host.upper())
    answer = _asked(world, host, GATEWAY["one's own key"], "/v1/chat/completions")
    assert answer.status_code in (401, 404)
    good = _asked(world, world.host, {"Authorization": "Bearer {p02}"}, "/v1/chat/completions")
    assert good.status_code == 200, good.text


@pytest.mark.parametrize("host", UNKNOWN)
def test_hosts_inside_the_cluster_are_not_reached(world: World, host: str) -> None:
    answer = _asked(world, host.format(p=P02), {"Authorization": "Bearer {p02}"}, "/v1/models")
    assert answer.status_code == 404


# At the bucket: a participant has no key of it, so there is nothing but to ask without.
OBJECT, OTHER = "Qwen-7B-Chat-Int8/config.json", "another-prefix/secret.txt"
_SIGNED = "?OSSAccessKeyId={key}&Expires=4102444800&Signature=aGVsbG8%3D"
BUCKET = [
    *((method, OBJECT, "") for method in ("GET", "HEAD", "PUT", "DELETE")),
    *((method, OTHER, "") for method in ("GET", "HEAD", "PUT", "DELETE")),
    *(("GET", "", query) for query in ("", "?list-type=2", "?uploads", "?acl", "?bucketInfo")),
    *(("POST", OBJECT, query) for query in ("?uploads", "?append&position=0")),
    ("POST", "", "?delete"),
    *(("GET", name, _SIGNED) for name in (OBJECT, OTHER, "")),
    ("PUT", OBJECT, _SIGNED),
]


@pytest.mark.parametrize(("method", "name", "query"), BUCKET)
def test_the_bucket_wants_a_key(world: World, method: str, name: str, query: str) -> None:
    state = state_files.running(world.root)
    host = state.oss.replace("//", f"//{state_files.BUCKET}.")
    place = f"{state.oss}/{name}{query.format(key=world.keys['p01'])}"
    answer = _sent(method, place, headers={"Host": host.partition("//")[2]}, data=b"mine")
    assert answer.status_code == 403
    assert b"architectures" not in answer.content


def test_with_the_instructors_key_the_bucket_answers(world: World) -> None:
    keys = process.environment(world.root)
    with oss_client(
        state_files.running(world.root).oss,
        auth="V4",
        key_id=keys["OSS_ACCESS_KEY_ID"],
        secret=keys["OSS_ACCESS_KEY_SECRET"],
        bucket_name=state_files.BUCKET,
    ) as bucket:
        assert b"architectures" in bucket.get_object(OBJECT).read()


def test_no_secret_of_the_bucket_is_in_what_a_participant_gets(world: World) -> None:
    secret = process.environment(world.root)["OSS_ACCESS_KEY_SECRET"]
    kinds = ("configmaps/workshop", "configmaps/weights", "secrets/qwen-api-key")
    for path in [*(within(CORE, P01, kind) for kind in kinds), within(KNATIVE, P01, "services")]:
        assert secret not in world.send("p01", "GET", path).text


KUBECTL = [
    "get secrets",
    "get secrets -A",
    f"get secret qwen-api-key -n {P02} -o yaml",
    "get pods -A --watch",
    "get nodes",
    "get pv",
    "get all -n kube-system",
    f"describe ksvc qwen -n {P02}",
    f"delete ksvc qwen -n {P02}",
    f"delete namespace {P02}",
    "create token participant",
    f"create token participant -n {P02}",
    "create clusterrolebinding mine --clusterrole=cluster-admin --user=me",
    "create rolebinding mine --clusterrole=admin --user=me",
    "create quota mine --hard=pods=99",
    "run shell --image=busybox -- sh",
    "get pods --as=admin",
    "get pods --as=me --as-group=system:masters",
    f"get pods --as=system:serviceaccount:{HOME}:keeper -n {HOME}",
    "get --raw /metrics",
    "cordon gpu-node-1",
    f"annotate namespace {P01} a=b",
    f"scale deployment qwen-00001-deployment --replicas=0 -n {P02}",
]


@pytest.mark.parametrize("command", KUBECTL)
def test_kubectl_is_refused(world: World, command: str) -> None:
    config = world.root.with_name("p01.kubeconfig")
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={config}", f"--cache-dir={world.root}.cache", *command.split()],
        env={"PATH": os.environ["PATH"], "HOME": str(config.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "orbidden" in done.stderr, done.stderr


def test_nothing_has_changed(world: World, before: dict[str, Any]) -> None:
    assert _kept(world) == before
