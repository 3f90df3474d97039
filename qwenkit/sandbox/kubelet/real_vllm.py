"""How does a vLLM of this machine serve in place of the modelled engine?

It runs on the CPU, so its times are this machine's; ``vllm_flags.py`` translates the container's
flags. It reads a copy of the mounted files, and sees neither network nor secrets.
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
from pathlib import Path

import aiohttp

from qwenkit.errors import SandboxError, SettingsError
from qwenkit.sandbox.controllers.clock import loop_time
from qwenkit.sandbox.http import LOOPBACK
from qwenkit.sandbox.kubelet import child, vllm_flags
from qwenkit.sandbox.kubelet.vllm_flags import VllmCommandLine

VARIABLE = "QWENKIT_VLLM"
_FIX = (
    f"put `vllm` on PATH, or its path in {VARIABLE}, "
    "or leave --engine vllm out for the modelled engine"
)
_VERSION = re.compile(r"\d+\.\d+\S*")
_VERSION_TIMEOUT_S = 180
_POLL_S = 0.2
_METRICS_EVERY_S = 1.0
_BUSY = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_DONE = re.compile(r"^vllm:request_success_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_OFFLINE = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
}
# Several pods share the machine: each gets one thread and the smallest KV cache (1 GiB), and is
# bound to no cores. Sockets have relative names: a deep folder's full path would be too long.
_SMALL = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": LOOPBACK,
    "VLLM_RPC_BASE_PATH": ".",
}


@dataclass(frozen=True)
class Vllm:
    """A vLLM of this machine, and the folders of the programs that pods run."""

    path: str
    version: str
    programs: child.Programs


def find() -> tuple[str, str]:
    """Return the path and the version of the vLLM in ``QWENKIT_VLLM``, or else on PATH.

    Raises:
        SettingsError: there is none.
        SandboxError: it does not print its version.
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
    printed, problem = "", f"no answer within {_VERSION_TIMEOUT_S} s"
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
        printed = next(reversed(done.stdout.split()), "") if done.returncode == 0 else ""
        problem = next(reversed(done.stderr.strip().splitlines()), f"it printed {printed!r}")
    if not _VERSION.fullmatch(printed):
        raise SandboxError(f"`{path} --version` prints no version", problem, _FIX)
    return printed


@dataclass
class RealServer:
    """A vLLM that runs."""

    port: int
    """The port that the container serves on."""
    process: child.ChildProcess
    url: str | None = None
    """Where it really listens; None until it does."""
    stop_code: int = 143
    """The exit status after SIGTERM; the real one when it has ended."""
    _busy_until: float = 0.0
    _asked: float = -math.inf
    _done: float = 0.0

    async def ended(self) -> int:
        """Wait for its end; return its exit status."""
        return await self.process.ended()

    async def last_busy(self) -> float:
        """Return the loop's time of the last request; infinity while one is in flight."""
        if loop_time() >= self._asked + _METRICS_EVERY_S:
            self._asked = loop_time()
            await self._ask()
        return self._busy_until

    async def _ask(self) -> None:
        if self.url is None:
            return
        timeout = aiohttp.ClientTimeout(total=5 * _METRICS_EVERY_S)
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
            self._busy_until = loop_time()
        self._done = done


@asynccontextmanager
async def serving(
    vllm: Vllm, line: VllmCommandLine, files: Mapping[str, bytes], log: Callable[[str], None]
) -> AsyncIterator[RealServer]:
    """Start vLLM on a pod's files and stop it when the block is left.

    Raises:
        SandboxError: the files or the flags are wrong, as for the modelled engine.
    """
    port = _free_port()
    with vllm.programs.private() as home:
        folder = home / "model"
        await child.write(files, folder)
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
    """Set the server's address when its port accepts connections."""
    while server.url is None:
        await asyncio.sleep(_POLL_S)
        with suppress(OSError):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.close()
            server.url = f"http://{LOOPBACK}:{port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
