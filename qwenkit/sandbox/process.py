"""Start, stop and inspect a sandbox that runs as a process of its own.

All state lies under one root folder. The process holds an exclusive lock on ``<root>/lock``
for as long as it lives, so a dead process is never mistaken for a running one, and a recycled
process id is never signalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from qwenkit.errors import SandboxError, SettingsError
from qwenkit.sandbox.kubelet.child import clear
from qwenkit.sandbox.kubelet.images import TRANSFER_IMAGE

DEFAULT_ROOT = Path.home() / ".qwenkit" / "sandbox"
BUCKET = "qwenkit-sandbox"
REGION = "cn-hangzhou"
PREVIOUS = "previous.json"
PROGRAMS = "programs"
ENGINES = ("modelled", "vllm")


@dataclass(frozen=True)
class Options:
    """How the sandbox is made: its GPUs, how fast its time runs, and its ports (0: any).

    ``engine`` is what serves: ``modelled``, or ``vllm`` for the one of this machine; which one
    that is, ``up`` and ``serve`` find out.
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
class State:
    """A running sandbox, as written to ``sandbox.json`` once all of it answers."""

    pid: int
    options: Options
    api: str
    gateway: str
    oss: str
    hub: str
    seconds: float
    """From the command that started it until all of it answered."""
    recovered: bool = False
    """Whether the cluster's objects are those of a sandbox that did not go down by itself."""


def up(
    root: Path,
    options: Options | None = None,
    *,
    began: float | None = None,
    timeout_s: float = 30,
) -> State:
    """Start a sandbox in the background; return when all of it answers.

    Args:
        root: its folder.
        options: how it is made.
        began: since when it is waited for, on the monotonic clock, if that is not now.
        timeout_s: how long it may take from now.

    Raises:
        SandboxError: one runs there already, the folder is somebody else's, a port is taken,
            or it did not come up in time (the message holds the end of its log).
        SettingsError: there is no such engine, or no vLLM on this machine.
    """
    began = time.monotonic() if began is None else began
    options = with_engine(options or Options())
    prepare(root)
    made = json.dumps(asdict(options))
    command = [sys.executable, "-m", "qwenkit.sandbox", str(root), made, str(began)]
    with (root / "log").open("ab") as log:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = state(root) if done.returncode == 0 else None
        if found:
            return found
        if done.returncode or not _locked(root):
            raise SandboxError(
                "the sandbox did not start", _last_words(root), f"log: {root / 'log'}"
            )
        time.sleep(0.05)
    raise SandboxError(
        f"the sandbox did not answer within {timeout_s:g} s",
        _last_words(root),
        f"log: {root / 'log'}; then qwenkit sandbox down",
    )


def with_engine(options: Options) -> Options:
    """Return options that say which vLLM of this machine serves, if one is to.

    Raises:
        SettingsError: there is no such engine, or no vLLM on this machine.
        SandboxError: it does not start.
    """
    if options.engine not in ENGINES:
        rule = f"is not one of {', '.join(ENGINES)}"
        raise SettingsError("engine", options.engine, rule, "qwenkit sandbox up --help")
    if options.engine == "modelled" or options.vllm:
        return options
    from qwenkit.sandbox.kubelet import real_vllm

    path, version = real_vllm.find()
    return replace(options, vllm=path, vllm_version=version)


def serve(root: Path, options: Options, *, began: float, detach: bool = False) -> None:
    """Be the sandbox under ``root``, until SIGTERM or Ctrl-C; detached, return at once.

    ``began`` is since when it is waited for, on the monotonic clock, which all processes share.

    Raises:
        SandboxError: one runs there already, or a port is taken.
    """
    from qwenkit.sandbox.world import run

    with _held(root) as lock:
        if detach:
            if os.fork():
                os._exit(0)  # the child has the lock too, and keeps it
            # A session of its own: Ctrl-C in the terminal is for the caller, not for it.
            os.setsid()
        lock.write(str(os.getpid()))
        lock.flush()
        _log_to_stderr()
        asyncio.run(run(root, options, began))


def down(root: Path, *, timeout_s: float = 15) -> bool:
    """Stop the sandbox under ``root`` and remove what it wrote; False if none was there.

    Raises:
        SandboxError: the lock is held by a process that cannot be told.
    """
    if pid := _holder(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while _locked(root) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _locked(root):
            os.kill(pid, signal.SIGKILL)
        _wait_gone(pid)
    was_there = _is_ours(root)
    if was_there:
        clear(root / PROGRAMS)
        shutil.rmtree(root)
    return was_there


def state(root: Path) -> State | None:
    """Return the running sandbox under ``root``, or None."""
    if not _locked(root):
        return None
    try:
        return read_state(root / "sandbox.json")
    except SandboxError:
        return None


def read_state(path: Path) -> State:
    """Return what a sandbox wrote about itself.

    Raises:
        SandboxError: there is no such file, or it is another version's.
    """
    try:
        raw = json.loads(path.read_text("utf-8"))
        return State(**raw | {"options": Options(**raw["options"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SandboxError(f"{path} is no state of a sandbox", type(error).__name__) from error


def running(root: Path) -> State:
    """Return the running sandbox under ``root``.

    Raises:
        SandboxError: none runs there.
    """
    found = state(root)
    if found is None:
        raise SandboxError(f"no sandbox is running under {root}", "", "qwenkit sandbox up --detach")
    return found


def environment(root: Path) -> dict[str, str]:
    """Return the variables that every other command needs to work against this sandbox."""
    found = running(root)
    key_id, key_secret = read_keys(root)
    return {
        "KUBECONFIG": str(root / "kubeconfig"),
        "OSS_ACCESS_KEY_ID": key_id,
        "OSS_ACCESS_KEY_SECRET": key_secret,
        "OSS_SESSION_TOKEN": "",
        "OSS_ENDPOINT": found.oss,
        "OSS_REGION": REGION,
        "OSS_BUCKET": BUCKET,
        "QWENKIT_CONTEXT": "sandbox",
        "QWENKIT_OSS_INTERNAL_ENDPOINT": found.oss,
        "QWENKIT_MODELSCOPE_ENDPOINT": found.hub,
        "QWENKIT_HF_ENDPOINT": found.hub,
        "QWENKIT_GPU": found.options.gpu,
        "QWENKIT_TRANSFER_IMAGE": TRANSFER_IMAGE,
    }


def exports(root: Path) -> str:
    """Return shell ``export`` lines of ``environment``."""
    pairs = environment(root).items()
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in pairs)


def prepare(root: Path) -> None:
    """Make ``root`` a sandbox's folder with keys of its own; keep what a crashed one left.

    Raises:
        SandboxError: a sandbox runs there, or the folder holds something else.
    """
    if _locked(root):
        raise SandboxError(
            f"a sandbox is already running under {root}",
            "",
            "use it, `qwenkit sandbox down` it, or give another --root",
        )
    if root.exists() and any(root.iterdir()) and not _is_ours(root):
        raise SandboxError(
            f"{root} is not empty and no sandbox made it",
            "a sandbox owns its folder and removes it when it goes down",
            "give --root a new or empty folder",
        )
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    clear(root / PROGRAMS)
    with contextlib.suppress(FileNotFoundError):
        (root / "sandbox.json").replace(root / PREVIOUS)
    keys = root / "keys.json"
    if not keys.exists():
        pair = [f"sandbox-{secrets.token_hex(6)}", secrets.token_urlsafe(24)]
        write_private(keys, json.dumps(pair))


def read_keys(root: Path) -> tuple[str, str]:
    """Return the sandbox's OSS key pair."""
    key_id, key_secret = json.loads((root / "keys.json").read_text("utf-8"))
    return key_id, key_secret


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, in one step."""
    temporary = path.with_suffix(".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


@contextlib.contextmanager
def _held(root: Path, *, timeout_s: float = 1) -> Iterator[TextIO]:
    """Hold the lock of ``root`` while the sandbox runs; the file is for its process id."""
    with (root / "lock").open("a") as lock:
        deadline = time.monotonic() + timeout_s
        while not _try_lock(lock):
            # Whoever looks whether a sandbox runs holds the lock for a moment too.
            if time.monotonic() > deadline:
                raise SandboxError(f"a sandbox is already running under {root}")
            time.sleep(0.02)
        lock.truncate(0)
        yield lock


def _log_to_stderr() -> None:
    """Log with times: to the terminal, or where ``up`` led a detached sandbox's stderr."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("qwenkit").setLevel(logging.INFO)


def _try_lock(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _holder(root: Path) -> int:
    """Return the process that holds the lock, also one that does not answer yet; 0 if none.

    Raises:
        SandboxError: it does not say which it is.
    """
    if not _locked(root):
        return 0
    deadline = time.monotonic() + 1
    while not (text := (root / "lock").read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    if not text:
        raise SandboxError(
            f"somebody holds {root / 'lock'} and does not say who",
            "its folder must not be removed under a process that goes on",
            "find it with `lsof` on that file and stop it",
        )
    return int(text)


def _wait_gone(pid: int, *, timeout_s: float = 5) -> None:
    """Wait for the interpreter behind a released lock to end."""
    deadline = time.monotonic() + timeout_s
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.02)


def _locked(root: Path) -> bool:
    try:
        with (root / "lock").open("r+") as lock:
            return not _try_lock(lock)
    except FileNotFoundError:
        return False


def _is_ours(root: Path) -> bool:
    return (root / "keys.json").exists()


def _last_words(root: Path) -> str:
    lines = (root / "log").read_text("utf-8", "replace").strip().splitlines()
    return " | ".join(lines[-3:]) or "it said nothing"
