"""What a sandbox keeps under its root folder: its lock, its state, its keys.

The process of a sandbox holds an exclusive lock on ``<root>/lock`` for as long as it lives, so
a dead process is never mistaken for a running one.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from qwenkit.errors import SandboxError
from qwenkit.private_files import home, write_private

DEFAULT_ROOT = home() / ".qwenkit" / "sandbox"
BUCKET = "qwenkit-sandbox"
REGION = "cn-hangzhou"

LOG = "log"
PROGRAMS = "programs"
STATE = "sandbox.json"
PREVIOUS_STATE = "previous.json"
CLUSTER = "cluster.json"
FAULTS_ADDRESS = "faults.json"
_LOCK = "lock"
_PID = "pid"
_KEYS = "keys.json"


@dataclass(frozen=True)
class SandboxOptions:
    """The sandbox's GPUs, the speed of its time, and its ports (0: any free one).

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


def read_state(path: Path) -> SandboxState:
    """Return a sandbox's state from its file.

    Raises:
        SandboxError: there is no such file, or it is another version's.
    """
    try:
        raw = json.loads(path.read_text("utf-8"))
        return SandboxState(**raw | {"options": SandboxOptions(**raw["options"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SandboxError(f"{path} is no state of a sandbox", type(error).__name__) from error


def find(root: Path) -> SandboxState | None:
    """Return the running sandbox under ``root``, or None."""
    if not is_locked(root):
        return None
    try:
        return read_state(root / STATE)
    except SandboxError:
        return None


def running(root: Path) -> SandboxState:
    """Return the running sandbox under ``root``.

    Raises:
        SandboxError: none runs there.
    """
    found = find(root)
    if found is None:
        raise SandboxError(f"no sandbox is running under {root}", "", "qwenkit sandbox up --detach")
    return found


def is_sandbox(root: Path) -> bool:
    """Return whether a sandbox made the folder."""
    return (root / _KEYS).exists()


def create_keys(root: Path) -> None:
    """Make the sandbox's OSS key pair, unless it has one."""
    if not is_sandbox(root):
        pair = [f"sandbox-{secrets.token_hex(6)}", secrets.token_urlsafe(24)]
        write_private(root / _KEYS, json.dumps(pair))


def read_keys(root: Path) -> tuple[str, str]:
    """Return the sandbox's OSS key pair."""
    key_id, key_secret = json.loads((root / _KEYS).read_text("utf-8"))
    return key_id, key_secret


@contextlib.contextmanager
def locked(root: Path, *, timeout_s: float = 1) -> Iterator[None]:
    """Hold the lock of ``root`` in the sandbox's own process.

    Raises:
        SandboxError: another process holds it for longer than a look at it takes.
    """
    try:
        with FileLock(root / _LOCK, timeout=timeout_s):
            write_private(root / _PID, str(os.getpid()))
            yield
    except Timeout as error:
        raise already_running(root) from error


def is_locked(root: Path) -> bool:
    """Return whether a process holds the lock of ``root``."""
    if not has_lock_file(root):
        return False
    try:
        with FileLock(root / _LOCK, blocking=False):
            return False
    except Timeout:
        return True
    except FileNotFoundError:  # the folder was removed meanwhile
        return False


def has_lock_file(root: Path) -> bool:
    """Return whether the lock's file exists; without it the folder was removed."""
    return (root / _LOCK).exists()


def holder(root: Path) -> int | None:
    """Return the process that holds the lock, None if none does; 0: its id is not written yet."""
    if not is_locked(root):
        return None
    try:
        return int((root / _PID).read_text())
    except (OSError, ValueError):
        return 0


def forget_holder(root: Path) -> None:
    """Remove the id of a process that no longer runs."""
    (root / _PID).unlink(missing_ok=True)


def already_running(root: Path) -> SandboxError:
    """Return the error for a root that another sandbox holds; it names the process."""
    return SandboxError(
        f"a sandbox is already running under {root}",
        f"its process is {holder(root) or 'unknown'}",
        "use it, `qwenkit sandbox down` it, or give another --root",
    )
