"""A vLLM of this machine in place of the modelled engine: found, asked, run on a pod's files.

It runs on the CPU, so its times are this machine's; ``vllm_flags.py`` says what becomes of the
container's flags. It reads a copy of the mounted files, and sees neither network nor secrets.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import aiohttp

from qwenkit.errors import SandboxError, SettingsError
from qwenkit.sandbox.http import LOOPBACK
from qwenkit.sandbox.kubelet import child, vllm_flags
from qwenkit.sandbox.kubelet.vllm_flags import Line

VARIABLE = "QWENKIT_VLLM"
_FIX = (
    f"put `vllm` on PATH, or its path in {VARIABLE}, "
    "or leave --engine vllm out for the modelled engine"
)
_VERSION = re.compile(r"\d+\.\d+\S*")
_VERSION_TIMEOUT_S = 180
_POLL_S = 0.2
_ASK_S = 1.0
_BUSY = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_DONE = re.compile(r"^vllm:request_success_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_OFFLINE = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
}
# Several pods share the machine: one thread and the least KV cache (1 GiB) each, no cores of
# their own. Sockets get relative names, since those of a deep folder would be too long.
_SMALL = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": LOOPBACK,
    "VLLM_RPC_BASE_PATH": ".",
}


@dataclass(frozen=True)
class Vllm:
    """A vLLM of this machine, and where its pods' programs have their folders."""

    path: str
    version: str
    programs: child.Programs


def find() -> tuple[str, str]:
    """Return the path and the version of the vLLM in ``QWENKIT_VLLM``, or else on PATH.

    Raises:
        SettingsError: there is none.
        SandboxError: it does not tell its version.
    """
    given = os.environ.get(VARIABLE, "")
    path = shutil.which(given or "vllm")
    if path is None and given:
        raise SettingsError(VARIABLE, given, "is no program that can be run", _FIX)
    if path is None:
        raise SettingsError("engine", "vllm", f"no vllm on PATH, and {VARIABLE} is not set", _FIX)
    path = os.path.abspath(path)
    return path, _version(path)


def _version(path: str) -> str:
    said, problem = "", f"no answer within {_VERSION_TIMEOUT_S} s"
    with tempfile.TemporaryDirectory() as home, suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [path, "--version"],
            env=child.environment(Path(home)) | _OFFLINE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
        said = next(reversed(done.stdout.split()), "") if done.returncode == 0 else ""
        problem = next(reversed(done.stderr.strip().splitlines()), f"it said {said!r}")
    if not _VERSION.fullmatch(said):
        raise SandboxError(f"`{path} --version` tells no version", problem, _FIX)
    return said


@dataclass
class RealServer:
    """A vLLM that runs. ``url`` is None until it listens."""

    port: int
    process: child.Child
    url: str | None = None
    stop_code: int = 143
    """Of a server stopped by SIGTERM; its own once it has ended."""
    _busy_until: float = 0.0
    _asked: float = -math.inf
    _done: float = 0.0

    async def ended(self) -> int:
        """Wait for its end; return its exit status."""
        return await self.process.ended()

    async def last_busy(self) -> float:
        """Return when a request last was there, on the loop's clock; infinity while one is."""
        if asyncio.get_running_loop().time() >= self._asked + _ASK_S:
            self._asked = asyncio.get_running_loop().time()
            await self._ask()
        return self._busy_until

    async def _ask(self) -> None:
        if self.url is None:
            return
        timeout = aiohttp.ClientTimeout(total=5 * _ASK_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{self.url}/metrics") as response,
            ):
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError):
            return
        done = sum(map(float, _DONE.findall(text)))
        if any(map(float, _BUSY.findall(text))):
            self._busy_until = math.inf
        elif done > self._done or self._busy_until == math.inf:
            self._busy_until = asyncio.get_running_loop().time()
        self._done = done


@asynccontextmanager
async def serving(
    vllm: Vllm, line: Line, files: Mapping[str, bytes], log: Callable[[str], None]
) -> AsyncIterator[RealServer]:
    """Start vLLM on a pod's files and stop it when the block is left.

    Raises:
        SandboxError: the files or the flags cannot be given to it, as for the modelled engine.
    """
    port = _free_port()
    with vllm.programs.private() as home:
        folder = home / "model"
        await asyncio.to_thread(_write, files, folder)
        translation = vllm_flags.translate(line, folder=str(folder), port=port)
        log(f"sandbox: real vLLM {vllm.version} on this CPU: times are this machine's")
        for note in translation.notes:
            log(f"sandbox: {note}")
        log(f"sandbox: {shlex.join(('vllm', *translation.argv))}")
        env = child.environment(home) | _OFFLINE | _SMALL
        if line.api_key:
            env["VLLM_API_KEY"] = line.api_key
        argv = [vllm.path, *translation.argv]
        async with child.running(argv, env=env, folder=home, log=log) as process:
            server = RealServer(line.port, process)
            listening = asyncio.create_task(_listens(server, port))
            try:
                yield server
            finally:
                listening.cancel()
                server.url = None
                server.stop_code = await process.stop()


async def _listens(server: RealServer, port: int) -> None:
    """Set the server's address once somebody accepts connections at its port."""
    while server.url is None:
        await asyncio.sleep(_POLL_S)
        with suppress(OSError):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.close()
            server.url = f"http://{LOOPBACK}:{port}"


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
        except OSError as error:
            message = f"OSError: the object {name!r} cannot be a file: {error.strerror}"
            raise SandboxError(message, exit_code=1) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
