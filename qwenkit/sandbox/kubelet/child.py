"""How does a real program run for a container, and end for certain?

The program runs in a process group of its own under ``supervisor.py``. When the block is left,
the group is gone; when the sandbox is killed, the supervisor ends it. Its output goes to the
container's log. Of the sandbox's environment it sees only where programs are and the locale.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path, PurePosixPath
from subprocess import PIPE, STDOUT

from qwenkit.errors import SandboxError
from qwenkit.sandbox.kubelet import supervisor
from qwenkit.sandbox.trees import is_folder, remove_tree

GRACE_S = 8.0
"""Seconds from SIGTERM to SIGKILL; less than ``down`` waits for the sandbox."""
_LAST_OUTPUT_S = 2.0
_UPLOADS = 4  # at once; others wait
_PRIVATE = "program-"
_LONGEST_LINE = 2**20
# No secret, no proxy, no variable that changes what Python imports.
_INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")


class Programs:
    """The private folders of the programs that run, and the servers that they may reach.

    ``oss``, ``hub`` and ``gateway`` are the addresses of the sandbox's own, and
    ``write_kubeconfig`` writes what a ServiceAccount reaches the API with: a file, the name of its
    context, namespace and account. They are set when these listen.
    """

    def __init__(self, folder: Path) -> None:
        self.oss = self.hub = self.gateway = ""
        self.write_kubeconfig: Callable[[Path, str, str, str], None]
        self.turn = asyncio.Semaphore(_UPLOADS)
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def private(self) -> Iterator[Path]:
        """Create a private folder for one program; remove it afterwards."""
        folder = Path(tempfile.mkdtemp(prefix=_PRIVATE, dir=self._folder))
        try:
            yield folder
        finally:
            remove_tree(folder)


def clear(folder: Path) -> None:
    """Remove the folders that a sandbox left, after the supervisors have ended its programs."""
    if not is_folder(folder):
        return
    if left := list(folder.glob(f"{_PRIVATE}*")):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        deadline = time.monotonic() + GRACE_S + _LAST_OUTPUT_S
        # NFS refuses the lock, so there this takes all the time.
        while not _unlocked(handle) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.close(handle)
    for private in left:
        remove_tree(private)
    with suppress(OSError):  # somebody put something else there
        folder.rmdir()


def environment(home: Path) -> dict[str, str]:
    """Return the environment of every program; ``home`` is for its home and temporary files."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return kept | {"HOME": str(home), "TMPDIR": str(home), "PYTHONUNBUFFERED": "1"}


class ChildProcess:
    """A program that runs."""

    def __init__(self, transport: asyncio.SubprocessTransport, output: _Output) -> None:
        self._transport, self._output = transport, output
        self._ended = asyncio.create_task(self._follow())

    async def ended(self) -> int:
        """Wait for its end; return its exit status, 128 + n after signal n."""
        return await asyncio.shield(self._ended)

    async def stop(self) -> int:
        """End it and all processes that it started, within ``GRACE_S``; return its status."""
        if (pipe := self._transport.get_pipe_transport(0)) is not None:
            pipe.close()
        return await self.ended()

    async def _follow(self) -> int:
        await self._output.exited.wait()
        # The processes that the program started and left behind.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_OUTPUT_S):
                await self._output.closed.wait()
        self._transport.close()
        code = self._transport.get_returncode() or 0
        return code if code >= 0 else 128 - code


class _Output(asyncio.SubprocessProtocol):
    """Receives a program's output. asyncio's ``Process`` would wait for its children, too."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log, self._rest = log, b""
        self.exited, self.closed = asyncio.Event(), asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._log(_shown(line))

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._log(_shown(self._rest))
        self.closed.set()


@asynccontextmanager
async def running(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    folder: Path,
    log: Callable[[str], None],
    limits: Mapping[str, int] | None = None,
) -> AsyncIterator[ChildProcess]:
    """Run a program until it ends or the block is left; ``log`` gets its lines.

    Args:
        argv: the program and its arguments.
        env: its whole environment.
        folder: its working directory, a ``Programs.private``.
        log: gets each line, without its line end.
        limits: its resource limits by the names of ``setrlimit``, such as ``FSIZE``.

    Raises:
        SandboxError: the kernel takes no such arguments; exit status 126.
    """
    all_limits = {"CORE": 0, **(limits or {})}
    limited = ",".join(f"{name}={value}" for name, value in all_limits.items())
    starting = asyncio.create_task(_start([limited, *argv], env, folder, log))
    try:
        child = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Cancelling asyncio's start would kill the supervisor and leave its program.
        await (await starting).stop()
        raise
    try:
        yield child
    finally:
        await child.stop()


async def _start(
    argv: Sequence[str], env: Mapping[str, str], folder: Path, log: Callable[[str], None]
) -> ChildProcess:
    try:
        transport, output = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Output(log),
            *(sys.executable, "-I", "-S", supervisor.__file__, str(GRACE_S), *argv),
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            env=env,
            cwd=folder,
        )
    except (OSError, ValueError) as error:  # too long, or not text that a kernel takes
        raise SandboxError(f"exec: {error}", exit_code=126) from error
    return ChildProcess(transport, output)


async def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the objects of a volume as files of a new folder.

    Raises:
        SandboxError: one cannot be a file there; exit status 1.
    """
    await asyncio.to_thread(_write, files, folder)


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir()
    for name, data in files.items():
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise SandboxError(f"OSError: the object {name!r} cannot be a file", exit_code=1)
        path = folder.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            message = f"OSError: the object {name!r} cannot be a file: {why}"
            raise SandboxError(message, exit_code=1) from error


def _unlocked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _shown(line: bytes) -> str:
    """Return a line as a terminal shows it: only the last state of a progress bar."""
    return line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
