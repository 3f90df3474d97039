"""Start, stop and inspect a sandbox that runs as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from qwenkit.errors import SandboxError, SettingsError
from qwenkit.sandbox import daemon, root_lock, state_files
from qwenkit.sandbox.kubelet.images import TRANSFER_IMAGE
from qwenkit.sandbox.root import claim, marker, removal
from qwenkit.sandbox.state_files import SandboxOptions, SandboxState
from qwenkit.sandbox.trees import is_folder

ENGINES = ("modelled", "vllm")
# How long a sandbox may take to end, and a process that was killed.
_END_S = 15.0
_KILL_S = 5.0
_POLL_S = 0.02
_TEMPORARY = "qwenkit-sandbox-"


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
    with _leashed(root, options, began, timeout_s, daemon.STAYS) as (state, leash):
        os.write(leash, b"free")
    return state


@contextlib.contextmanager
def attached(
    options: SandboxOptions | None = None,
    root: Path | None = None,
    *,
    on_note: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[Path, SandboxState]]:
    """Run a sandbox for the length of the block; yields its folder and its state.

    It ends with this process, even if that is killed, and its folder goes; one that a crashed
    sandbox had left stays.

    Args:
        options: its GPUs, ports and engine.
        root: its folder; None: one of its own among the temporary files.
        on_note: gets a sentence about what stays, because no sandbox wrote it.

    Raises:
        SandboxError, SettingsError: as for ``up``.
    """
    options, temporary = with_engine(options or SandboxOptions()), root is None
    root = root or _temporary_root()
    with contextlib.ExitStack() as stack:
        claim.refuse_link(root)
        claim.wait_free(root)
        with claim.owned(root, root_lock.CHANGES, temporary=temporary) as fresh:
            stack.callback(os.close, marker.hold(root))
        mode = daemon.GOES if fresh else daemon.STAYS
        try:
            state, _ = stack.enter_context(_leashed(root, options, time.monotonic(), 30, mode))
        except BaseException:
            # Whoever started one there meanwhile keeps it.
            with contextlib.suppress(SandboxError, OSError):
                if fresh:
                    with root_lock.locked(root, root_lock.CHANGES, timeout_s=_END_S):
                        removal.remove(root)
            raise
        if fresh:
            stack.callback(down, root, on_note=on_note)
        else:
            stack.callback(lambda: _stop(root, time.monotonic() + _END_S))
        yield root, state


def _temporary_root() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=_TEMPORARY))
    except OSError as error:
        raise SandboxError(
            "no temporary folder can be made for the sandbox of this run",
            error.strerror or str(error),
            "set TMPDIR to a folder that this user can write",
        ) from error


def sweep(on_note: Callable[[str], None] = lambda line: None) -> None:
    """Remove the folders of sandboxes that ran for a process that was killed, as they were."""
    try:
        roots = sorted(Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*"))
    except OSError:  # there is no folder for temporary files
        return
    for root in roots:
        # Whatever is odd about a folder: it is not surely ours, or not surely dead.
        with contextlib.suppress(SandboxError, OSError):
            if not is_folder(root) or root.stat().st_uid != os.geteuid():
                continue
            if (made := marker.read(root)) is None or not made.temporary:
                continue
            if made.machine != platform.node():
                continue
            with root_lock.locked(root, root_lock.CHANGES, timeout_s=0):
                if not marker.is_held(root):
                    removal.remove(root)
                    on_note(f"removed {root}, which a killed run left")


@contextlib.contextmanager
def _leashed(
    root: Path, options: SandboxOptions, began: float, timeout_s: float, mode: str
) -> Iterator[tuple[SandboxState, int]]:
    """Start a sandbox that ends with the block; a byte into the descriptor sets it free."""
    end, leash = os.pipe()
    try:
        try:
            started = _launch(root, options, began, mode, end)
        finally:
            os.close(end)
        yield _wait_up(root, started, timeout_s), leash
    finally:
        os.close(leash)


def _launch(root: Path, options: SandboxOptions, began: float, mode: str, end: int) -> bool:
    """Run ``__main__`` until the sandbox holds its lock; return whether it does."""
    # -P: a person's json.py in the working folder is not the standard library's.
    module = ["-P", "-m", "qwenkit.sandbox"]
    command = [sys.executable, *module, str(root), json.dumps(asdict(options))]
    known = marker.claimed(root).id
    try:
        output = (root / state_files.LOG).open("ab")
    except OSError as error:
        raise claim.unusable(root, error) from error
    with output:
        done = subprocess.run(
            [*command, str(began), mode, known],
            stdin=end,
            stdout=output,
            stderr=output,
            check=False,
        )
    return done.returncode == 0


def _wait_up(root: Path, started: bool, timeout_s: float) -> SandboxState:
    log, deadline = root / state_files.LOG, time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if started and (found := state_files.find(root)):
            return found
        if not (started and root_lock.is_locked(root)):
            raise SandboxError("the sandbox did not start", _end_of(log), f"log: {log}")
        time.sleep(0.05)
    raise SandboxError(
        f"the sandbox did not answer within {timeout_s:g} s", _end_of(log), f"log: {log}"
    )


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


def prepare(root: Path) -> None:
    """Make ``root`` a sandbox's folder with its own keys; keep what a crashed sandbox left.

    Raises:
        SandboxError: a sandbox runs there, or the folder holds something else.
    """
    claim.refuse_link(root)
    claim.wait_free(root)
    with claim.owned(root, root_lock.CHANGES):
        pass


def down(
    root: Path, *, timeout_s: float = _END_S, on_note: Callable[[str], None] = lambda line: None
) -> bool:
    """Stop the sandbox under ``root`` and remove its files; return False if there was none.

    ``on_note`` gets a sentence about what stays, because no sandbox wrote it.

    Raises:
        SandboxError: an unknown process holds the lock, the folder is a link, its marker is
            damaged, or something cannot be removed.
    """
    claim.refuse_link(root)
    if not _is_ours(root, on_note):
        return False
    deadline = time.monotonic() + timeout_s
    while True:
        _stop(root, deadline)
        try:
            with root_lock.locked(root, root_lock.CHANGES):
                left = removal.remove(root)
            break
        except FileNotFoundError:  # another `down` was quicker
            return True
        except OSError as error:
            raise claim.unusable(root, error) from error
        except SandboxError:  # another one was started there meanwhile
            if not root_lock.is_locked(root) or time.monotonic() > deadline:
                raise
    if left:
        on_note(f"{root} stays, with what no sandbox wrote: {claim.listed(left)}")
    elif root.exists():
        on_note(f"{root} stays, empty: it cannot be removed")
    return True


def _is_ours(root: Path, on_note: Callable[[str], None]) -> bool:
    """Return whether a sandbox made the folder, if only the beginning of it.

    Raises:
        SandboxError: its marker is damaged, or an older qwenkit made it.
    """
    try:
        names = set(os.listdir(root))
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise claim.unusable(root, error) from error
    if marker.read(root) is not None or (names and marker.is_born(root, names)):
        return True
    if state_files.KEYS in names:
        raise claim.foreign(root, names)
    if names:
        on_note(f"nothing was removed from {root}: no sandbox made it")
    return False


def _stop(root: Path, deadline: float) -> None:
    """End the process of the sandbox under ``root``, and wait until another `down` has ended.

    Raises:
        SandboxError: the lock is held by an unknown process, or one of another user.
    """
    unknown_since = time.monotonic()
    ended: dict[int, int] = {}
    while (pid := root_lock.holder(root)) is not None and time.monotonic() < deadline + _KILL_S:
        late = time.monotonic() > deadline
        if pid and (signal.SIGKILL if late else signal.SIGTERM) != ended.get(pid):
            ended[pid] = signal.SIGKILL if late else signal.SIGTERM
            try:
                os.kill(pid, ended[pid])
            except PermissionError as error:
                what = f"the sandbox under {root} is process {pid} of another user"
                raise SandboxError(
                    what, "this user may not end it", "let that user end it"
                ) from error
            except ProcessLookupError:
                continue
        if pid or root_lock.holder(root, root_lock.CHANGES):
            unknown_since = time.monotonic()
        elif time.monotonic() > unknown_since + root_lock.UNKNOWN_S:
            raise SandboxError(
                f"an unknown process holds {root / root_lock.LOCK}",
                "its folder must not be removed while it runs",
                "find it with `lsof` on that file and stop it",
            )
        time.sleep(_POLL_S)
    for one in ended:
        _wait_gone(one)


def environment(root: Path) -> dict[str, str]:
    """Return the variables that every other command needs to work against this sandbox."""
    found = state_files.running(root)
    gpu = {"QWENKIT_GPU": found.options.gpu} if found.options.gpus else {}
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
        "QWENKIT_RUN": marker.claimed(root).run,
        "QWENKIT_TRANSFER_IMAGE": TRANSFER_IMAGE,
        **gpu,
    }


def exports(root: Path) -> str:
    """Return shell ``export`` lines of ``environment``."""
    pairs = environment(root).items()
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in pairs)


def _wait_gone(pid: int, *, timeout_s: float = 5) -> None:
    """Wait until the process that released the lock has ended."""
    deadline = time.monotonic() + timeout_s
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.02)


def _end_of(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return "its folder was removed meanwhile"
    return " | ".join(lines[-3:]) or "its log is empty"
