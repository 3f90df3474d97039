"""Start, stop and inspect a sandbox that runs as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from qwenkit.errors import SandboxError, SettingsError
from qwenkit.private_files import make_folder
from qwenkit.sandbox import state_files
from qwenkit.sandbox.kubelet.child import clear
from qwenkit.sandbox.kubelet.images import TRANSFER_IMAGE
from qwenkit.sandbox.state_files import SandboxOptions, SandboxState

ENGINES = ("modelled", "vllm")


def up(
    root: Path,
    options: SandboxOptions | None = None,
    *,
    began: float | None = None,
    timeout_s: float = 30,
) -> SandboxState:
    """Start a sandbox in the background; return when all of it answers.

    Args:
        root: its folder.
        options: its GPUs, ports and engine.
        began: when the wait for it began, on the monotonic clock; None: now.
        timeout_s: how long it may take from now.

    Raises:
        SandboxError: one runs there already, the folder belongs to something else, a port is
            taken, or it did not start in time (the message holds the end of its log).
        SettingsError: there is no such engine, or no vLLM on this machine.
    """
    began = time.monotonic() if began is None else began
    options = with_engine(options or SandboxOptions())
    prepare(root)
    log = root / state_files.LOG
    started = _launch(root, options, began, log)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if started and (found := state_files.find(root)):
            return found
        if not (started and state_files.is_locked(root)):
            raise SandboxError("the sandbox did not start", _end_of(log), f"log: {log}")
        time.sleep(0.05)
    raise SandboxError(
        f"the sandbox did not answer within {timeout_s:g} s",
        _end_of(log),
        f"log: {log}; then qwenkit sandbox down",
    )


def _launch(root: Path, options: SandboxOptions, began: float, log: Path) -> bool:
    """Run ``__main__`` until the sandbox holds its lock; return whether it does."""
    command = [sys.executable, "-m", "qwenkit.sandbox", str(root)]
    with log.open("ab") as output:
        done = subprocess.run(
            [*command, json.dumps(asdict(options)), str(began)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    return done.returncode == 0


def with_engine(options: SandboxOptions) -> SandboxOptions:
    """Return the options with the path and version of this machine's vLLM, if it is to serve.

    Raises:
        SettingsError: there is no such engine, or no vLLM on this machine.
        SandboxError: vLLM does not start.
    """
    if options.engine not in ENGINES:
        rule = f"is not one of {', '.join(ENGINES)}"
        raise SettingsError("engine", options.engine, rule, "qwenkit sandbox up --help")
    if options.engine == "modelled" or options.vllm:
        return options
    from qwenkit.sandbox.kubelet import real_vllm

    path, version = real_vllm.find()
    return replace(options, vllm=path, vllm_version=version)


def serve(root: Path, options: SandboxOptions, *, began: float) -> None:
    """Run the sandbox under ``root`` in this process, until SIGTERM or Ctrl-C.

    ``began`` is when the wait for it began, on the monotonic clock, which all processes share.

    Raises:
        SandboxError: one runs there already, or a port is taken.
    """
    from qwenkit.sandbox.assembly import run

    with state_files.locked(root):
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("qwenkit").setLevel(logging.INFO)
        asyncio.run(run(root, options, began))


def serve_detached(root: Path, options: SandboxOptions, *, began: float) -> int:
    """Run ``serve`` in a child with a session of its own: Ctrl-C in the terminal is not for it.

    Returns 0 once the child holds the lock, its exit code if it ends before. The child does not
    return.
    """
    if child := os.fork():
        while state_files.holder(root) != child:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        return 0
    os.setsid()
    serve(root, options, began=began)
    return 0


def down(root: Path, *, timeout_s: float = 15) -> bool:
    """Stop the sandbox under ``root`` and remove its files; return False if there was none.

    Raises:
        SandboxError: the lock is held by an unknown process.
    """
    if pid := _holder(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while state_files.is_locked(root) and time.monotonic() < deadline:
            time.sleep(0.05)
        if state_files.is_locked(root):
            os.kill(pid, signal.SIGKILL)
        _wait_gone(pid)
    was_there = state_files.is_sandbox(root)
    if was_there:
        clear(root / state_files.PROGRAMS)
        shutil.rmtree(root)
    return was_there


def environment(root: Path) -> dict[str, str]:
    """Return the variables that every other command needs to work against this sandbox."""
    found = state_files.running(root)
    key_id, key_secret = state_files.read_keys(root)
    return {
        "KUBECONFIG": str(root / "kubeconfig"),
        "OSS_ACCESS_KEY_ID": key_id,
        "OSS_ACCESS_KEY_SECRET": key_secret,
        "OSS_SESSION_TOKEN": "",
        "OSS_ENDPOINT": found.oss,
        "OSS_REGION": state_files.REGION,
        "OSS_BUCKET": state_files.BUCKET,
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
    """Make ``root`` a sandbox's folder with its own keys; keep what a crashed sandbox left.

    Raises:
        SandboxError: a sandbox runs there, or the folder holds something else.
    """
    if state_files.is_locked(root):
        raise state_files.already_running(root)
    if root.exists() and any(root.iterdir()) and not state_files.is_sandbox(root):
        raise SandboxError(
            f"{root} is not empty and no sandbox made it",
            "a sandbox owns its folder and removes it when it goes down",
            "give --root a new or empty folder",
        )
    make_folder(root)
    state_files.forget_holder(root)
    clear(root / state_files.PROGRAMS)
    with contextlib.suppress(FileNotFoundError):
        (root / state_files.STATE).replace(root / state_files.PREVIOUS_STATE)
    state_files.create_keys(root)


def _holder(root: Path) -> int | None:
    """Return the process that holds the lock, also one that does not answer yet; None if none.

    Raises:
        SandboxError: the process does not write its id.
    """
    deadline = time.monotonic() + 1
    while (pid := state_files.holder(root)) == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    if pid == 0:
        raise SandboxError(
            f"an unknown process holds {root / 'lock'}",
            "its folder must not be removed while it runs",
            "find it with `lsof` on that file and stop it",
        )
    return pid


def _wait_gone(pid: int, *, timeout_s: float = 5) -> None:
    """Wait until the process that released the lock has ended."""
    deadline = time.monotonic() + timeout_s
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.02)


def _end_of(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return " | ".join(lines[-3:]) or "its log is empty"
