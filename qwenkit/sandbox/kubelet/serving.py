"""What runs for a vLLM command in a container: the modelled engine, or a vLLM of this machine?

The modelled one checks flags, files and GPU, takes its load time, and then really listens.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from qwenkit.capacity.gpu import Gpu
from qwenkit.errors import QwenkitError, SandboxError
from qwenkit.sandbox.engine import checkpoint, flags, hardware, newer_flags
from qwenkit.sandbox.engine.hardware import Place
from qwenkit.sandbox.engine.releases import PAGE, Release, of_image
from qwenkit.sandbox.engine.server import EngineServer
from qwenkit.sandbox.engine.start import EngineStart
from qwenkit.sandbox.http import listen
from qwenkit.sandbox.kubelet import real_vllm, vllm_flags
from qwenkit.sandbox.kubelet.real_vllm import RealServer, Vllm
from qwenkit.sandbox.kubelet.timing import NodeTiming
from qwenkit.sandbox.kubelet.vllm_flags import VllmCommandLine
from qwenkit.sandbox.kubelet.volumes import Mount, containing


@dataclass(frozen=True)
class Machine:
    """What a container runs on. ``gpus`` is the number of GPUs that it may use."""

    gpu: Gpu
    gpus: int
    timing: NodeTiming
    vllm: Vllm | None = None
    """Serves in place of the modelled engine."""


@dataclass(frozen=True)
class ModelledServer:
    """The modelled engine, listening. See ``RealServer`` for the fields."""

    port: int
    url: str
    engine: EngineServer
    stop_code: int = 2
    """As recorded."""

    async def ended(self) -> int:
        """Wait until its engine dies.

        Raises:
            SandboxError: always; ``what`` goes to the container's log.
        """
        error = await self.engine.failure()
        raise SandboxError(
            "ERROR async_llm_engine.py] Engine background task failed\n"
            f"{type(error).__name__}: {error}\n"
            "vllm.engine.async_llm_engine.AsyncEngineDeadError: Task finished unexpectedly.",
            exit_code=1,
        )

    async def last_busy(self) -> float:
        """Return the loop's time of the last request; infinity while one is in flight."""
        return math.inf if self.engine.in_flight else self.engine.last_request


Serving = ModelledServer | RealServer


@dataclass(frozen=True)
class ServerProcess:
    """A vLLM server's arguments, image and environment."""

    argv: Sequence[str]
    image: str
    env: Mapping[str, str]

    def flags(self) -> flags.Flags:
        """Return its flags, as its release reads them.

        Raises:
            SandboxError: argparse ends it.
        """
        release = of_image(self.image) or PAGE
        parsed = newer_flags.parse(self.argv, release) if release.newer else flags.parse(self.argv)
        key = self.env.get("VLLM_API_KEY", "")
        # 0.4.1 prefers the variable, newer ones the flag.
        given = parsed.api_keys if parsed.release.newer else ()
        return replace(parsed, api_keys=given or ((key,) if key else parsed.api_keys))


@asynccontextmanager
async def serving(
    process: ServerProcess,
    mounts: Sequence[Mount],
    machine: Machine,
    log: Callable[[str], None],
) -> AsyncIterator[Serving]:
    """Start a server and stop it when the block is left.

    Raises:
        SandboxError: the process ends instead. ``what`` goes to its log,
            ``context["exit_code"]`` is its exit status.
    """
    if machine.vllm is None:
        async with _modelled(process, mounts, machine, log) as server:
            yield server
        return
    line = vllm_flags.read(process.argv)
    if (key := process.env.get("VLLM_API_KEY", "")) and not line.api_key:
        line = VllmCommandLine((*line.flags, ("--api-key", (key,))))
    _need_gpu(machine, PAGE)
    files = await _files(line.model, mounts)
    async with real_vllm.serving(machine.vllm, line, files, log) as real:
        yield real


@asynccontextmanager
async def _modelled(
    process: ServerProcess,
    mounts: Sequence[Mount],
    machine: Machine,
    log: Callable[[str], None],
) -> AsyncIterator[ModelledServer]:
    chosen = process.flags()
    clock = machine.timing.clock
    start = EngineStart(chosen, load_s=machine.timing.load_s, clock=clock, log=log)
    await start.engine()
    if not chosen.release.cpu:
        _need_gpu(machine, chosen.release)
    folder = chosen.model.rstrip("/")
    files = await _files(folder, mounts)
    model = await asyncio.to_thread(checkpoint.load, files, folder, chosen.release)
    place = Place(machine.gpu, machine.gpus, process.env)
    prepared = hardware.prepare(place, chosen, model.config)
    engine = EngineServer(
        chosen,
        model,
        prepared.hardware,
        max_model_len=prepared.longest,
        time_scale=clock,
    )
    await start.load(prepared)
    listening = await listen(engine.app())
    start.listens()
    try:
        yield ModelledServer(chosen.port, listening.url, engine)
    finally:
        await listening.close()


def _need_gpu(machine: Machine, release: Release) -> None:
    if machine.gpus < 1 and release.newer:
        raise checkpoint.failure(
            "RuntimeError",
            "Failed to infer device type, please set the environment variable "
            "`VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue.",
        )
    if machine.gpus < 1:
        raise checkpoint.failure(
            "RuntimeError",
            "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and "
            "installed a driver from http://www.nvidia.com/Download/index.aspx",
        )


async def _files(folder: str, mounts: Sequence[Mount]) -> dict[str, bytes]:
    if mount := containing(mounts, folder):
        inner = folder.removeprefix(mount.path).strip("/")
        try:
            return await mount.folder.read(f"{inner}/" if inner else "")
        except QwenkitError as error:
            raise checkpoint.failure("OSError", f"{error.what}: {error.why}") from error
    if folder.startswith("/"):
        raise checkpoint.failure(
            "huggingface_hub.utils._validators.HFValidationError",
            "Repo id must be in the form 'repo_name' or 'namespace/repo_name': "
            f"'{folder}'. Use `repo_type` argument if needed.",
        )
    raise checkpoint.failure(
        "OSError",
        "We couldn't connect to 'https://huggingface.co' to load this file, couldn't find it in "
        f"the cached files and it looks like {folder} is not the path to a directory containing "
        "a file named config.json.",
    )
