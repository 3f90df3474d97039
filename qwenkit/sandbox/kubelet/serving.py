"""Run a vLLM server line in a container: flags, files, GPU, load time, then a real listener."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwenkit.errors import QwenkitError
from qwenkit.sandbox.engine import checkpoint, flags, hardware
from qwenkit.sandbox.engine.flags import Flags
from qwenkit.sandbox.engine.server import VERSION, Engine
from qwenkit.sandbox.http import listen
from qwenkit.sandbox.kubelet.volumes import Mount

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True)
class Machine:
    """What a container runs on. ``gpus`` is what it may use of them."""

    gpu: str
    gpus: int
    load_s: float
    time_scale: float


@dataclass(frozen=True)
class Server:
    """A server that listens: behind which port of the container, and where really."""

    port: int
    url: str
    engine: Engine


@asynccontextmanager
async def serving(
    argv: Sequence[str], mounts: Sequence[Mount], machine: Machine, log: Callable[[str], None]
) -> AsyncIterator[Server]:
    """Start a server and stop it when the block is left.

    Raises:
        SandboxError: the process ends instead: ``what`` goes to its log,
            ``context["exit_code"]`` is its status.
    """
    chosen = flags.parse(argv)
    log(f"INFO api_server.py:151] vLLM API server version {VERSION}")
    log(f"INFO llm_engine.py:98] Initializing an LLM engine (v{VERSION}) with model={chosen.model}")
    if machine.gpus < 1:
        raise checkpoint.failure(
            "RuntimeError",
            "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and "
            "installed a driver from http://www.nvidia.com/Download/index.aspx",
        )
    model = checkpoint.load(await _files(chosen, mounts), chosen.model.rstrip("/"))
    gpu, longest = hardware.fit(machine.gpu, chosen, model.config)
    engine = Engine(chosen, model, gpu, max_model_len=longest, time_scale=machine.time_scale)
    await asyncio.sleep(machine.load_s)
    log(f"INFO gpu_executor.py:94] # GPU blocks: {gpu.kv_tokens // chosen.block_size}")
    log(
        f"INFO sandbox] time and memory are those of {hardware.STANDS_FOR.name} on a "
        f"{machine.gpu}, modelled, not measured (time scale {machine.time_scale:g})"
    )
    listening = await listen(engine.app())
    log(f"INFO:     Uvicorn running on http://0.0.0.0:{chosen.port} (Press CTRL+C to quit)")
    try:
        yield Server(chosen.port, listening.url, engine)
    finally:
        await listening.close()


async def _files(chosen: Flags, mounts: Sequence[Mount]) -> dict[str, bytes]:
    folder = chosen.model.rstrip("/")
    for mount in mounts:
        if folder == mount.path or folder.startswith(f"{mount.path.rstrip('/')}/"):
            inner = folder.removeprefix(mount.path).strip("/")
            try:
                return await mount.bucket.read(f"{inner}/" if inner else "")
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
