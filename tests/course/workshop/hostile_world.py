"""A workshop of two on a sandbox of its own, for what a hostile participant tries there."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from hostile_tries import CORE, HOME, LEASES, P01, P02, Try, within

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
    keeper: Keeper
    keys: dict[str, str]
    host: str

    def settings(self, number: int) -> Settings:
        who = self.workshop.participants[number - 1]
        return Settings(**self.workshop.parameters(who))

    def send(self, user: str, method: str, path: str, **how: Any) -> requests.Response:
        """Send a request to the API server as a user: ``admin``, or a participant."""
        how["headers"] = {"Authorization": f"Bearer {self.tokens[user]}", **how.get("headers", {})}
        return sent(method, self.api + path, verify=str(self.root.with_name("ca.crt")), **how)

    def tried(self, user: str, one: Try) -> requests.Response:
        path, headers = one.path, dict(one.headers)
        if user == "admin" and one.method != "GET":
            path += ("&" if "?" in path else "?") + "dryRun=All"
        if one.body is not None:
            headers.setdefault("Content-Type", "application/json")
        data = None if one.body is None else json.dumps(one.body)
        return self.send(user, one.method, path, data=data, headers=headers)


def sent(method: str, url: str, **how: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, url, timeout=30, **how)
        answer.content  # noqa: B018
        return answer


def _kubeconfig(path: Path) -> tuple[str, str]:
    """Return the token and the certificate of a kubeconfig."""
    config = json.loads(path.read_text())
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    return config["users"][0]["user"]["token"], b64decode(authority).decode()


@contextmanager
def hostile_world(folder: Path) -> Iterator[World]:
    """Run it until the block ends; its files are in ``folder``."""
    root = folder / "root"
    options = state_files.SandboxOptions(gpus=2, time_scale=100)
    with ExitStack() as stack:
        _, state = stack.enter_context(process.attached(options, root))
        own = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in process.environment(root).items():
            own.setenv(name, value)
        settings = Settings.load().model_copy(update={"transfer_image": ""})  # the test keeps
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
        made = World(root, state.api, state.gateway, tokens, workshop, room, Keeper(room), {}, "")
        second = made.settings(2)
        with closing(Cluster.connect(second)) as cluster:
            ask_for(cluster, second)
            made.keeper.turn()
            made.host = deploy(second).host
            made.keys["p02"] = api_key(cluster, second)
        with closing(Cluster.connect(first := made.settings(1))) as cluster:
            made.keys["p01"] = api_key(cluster, first)
        yield made


def kept(world: World) -> dict[str, Any]:
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
