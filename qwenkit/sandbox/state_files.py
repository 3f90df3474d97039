"""What a sandbox keeps under its root folder: its state, its keys. ``root`` says whose that is."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwenkit.errors import SandboxError
from qwenkit.private_files import OWN, home
from qwenkit.sandbox import root_lock

DEFAULT_ROOT = home() / OWN / "sandbox"
BUCKET = "qwenkit-sandbox"
REGION = "cn-hangzhou"
MODEL = "qwen/Qwen-7B-Chat-Int8"

LOG = "log"
PROGRAMS = "programs"
STATE = "sandbox.json"
PREVIOUS_STATE = "previous.json"
CLUSTER = "cluster.json"
FAULTS_ADDRESS = "faults.json"
KUBECONFIG = "kubeconfig"
OSS = "oss"
HUB = "hub"
VOLUMES = "volumes"
KEYS = "keys.json"


@dataclass(frozen=True)
class SandboxOptions:
    """The sandbox's GPUs, the speed of its time, and its ports (0: any free one).

    With ``gpus`` 0 its node is like kind's: few CPUs and no GPU. Without ``oss_driver`` no node can
    mount a bucket.

    ``engine`` is what serves: ``modelled``, or ``vllm`` for the vLLM of this machine, whose path
    and version ``process.with_engine`` fills in.
    """

    gpu: str = "V100-16"
    gpus: int = 3
    time_scale: float = 1.0
    oss_port: int = 0
    hub_port: int = 0
    api_port: int = 0
    gateway_port: int = 0
    engine: str = "modelled"
    vllm: str = ""
    vllm_version: str = ""
    oss_driver: bool = True


@dataclass(frozen=True)
class SandboxState:
    """A running sandbox, as written to ``sandbox.json`` once all of it answers."""

    pid: int
    options: SandboxOptions
    api: str
    gateway: str
    oss: str
    hub: str
    seconds: float
    """From the command that started it until all of it answered."""
    recovered: bool = False
    """Whether the cluster's objects are those of a sandbox that crashed."""
    time_scale: float = 1.0
    """How fast the node's time runs now; a run may change it for as long as it lasts."""


def read_state(path: Path) -> SandboxState:
    """Return a sandbox's state from its file.

    Raises:
        SandboxError: there is no such file, or it is another version's.
    """
    try:
        raw = json.loads(path.read_text("utf-8"))
        return SandboxState(**raw | {"options": SandboxOptions(**raw["options"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SandboxError(
            f"{path} is no state of a sandbox",
            f"it cannot be read: {type(error).__name__}",
            "qwenkit sandbox down, then up",
        ) from error


def find(root: Path) -> SandboxState | None:
    """Return the running sandbox under ``root``, or None."""
    if not (running := root_lock.holder(root)):
        return None
    try:
        found = read_state(root / STATE)
    except SandboxError:
        return None
    return found if found.pid == running else None


def default_roots() -> Iterator[Path]:
    """Yield the folders that a sandbox may have by default: one each, where several run."""
    yield DEFAULT_ROOT
    yield from (DEFAULT_ROOT.with_name(f"{DEFAULT_ROOT.name}-{n}") for n in itertools.count(2))


def of_shell() -> Path:
    """Return the folder of the sandbox whose kubeconfig this shell has, else the default one."""
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    roots = (Path(file).absolute().parent for file in named if file)
    return next((root for root in roots if (root / STATE).is_file()), DEFAULT_ROOT)


def running(root: Path) -> SandboxState:
    """Return the running sandbox under ``root``.

    Raises:
        SandboxError: none runs there.
    """
    found = find(root)
    if found is None:
        raise SandboxError(
            f"no sandbox is running under {root}",
            "no process holds its lock",
            "qwenkit sandbox up --detach",
        )
    return found


def whose(root: Path) -> str:
    """Return whose sandbox is under ``root``: its user, and the lab that uses it, if one does."""
    try:
        user = root.owner()
    except (KeyError, OSError):  # a user without a name, in a container
        user = str(root.stat().st_uid)
    if lab := root_lock.holder(root, root_lock.USES):
        return f"the sandbox under {root} of user {user} and the lab of process {lab}"
    return f"the sandbox under {root} of user {user}"


def read_keys(root: Path) -> tuple[str, str]:
    """Return the sandbox's OSS key pair."""
    key_id, key_secret = json.loads((root / KEYS).read_text("utf-8"))
    return key_id, key_secret
