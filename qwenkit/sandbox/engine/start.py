"""What does vLLM 0.4.1 do while it starts, how long does each part take, and what does it log?

The parts share the node's ``load_s``: of the real model's 9 GB, not of the small files read here.
"""

from __future__ import annotations

from collections.abc import Callable

from qwenkit.capacity.gpu import GIB
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.engine.flags import Flags
from qwenkit.sandbox.engine.hardware import STANDS_FOR
from qwenkit.sandbox.kube.objects import utc_now

VERSION = "0.4.1"
# With 45 s: 36 s for 9.1 GB at 250 MB/s; estimates, as is the whole.
_SHARES = {"engine": 0.06, "weights": 0.8, "profile": 0.04, "graphs": 0.1}
_SWAP = 4 * GIB
_GRAPHS = (
    "Capturing the model for CUDA graphs. This may lead to unexpected consequences if the model is "
    "not static. To run the model in eager mode, set 'enforce_eager=True' or use "
    "'--enforce-eager' in the CLI."
)


class EngineStart:
    """The start of one server. ``load_s`` is the time of all its parts by ``clock``."""

    def __init__(
        self, flags: Flags, *, load_s: float, clock: Clock, log: Callable[[str], None]
    ) -> None:
        self._flags, self._clock, self._log = flags, clock, log
        shares = {k: v for k, v in _SHARES.items() if k != "graphs" or not flags.enforce_eager}
        whole = sum(shares.values())
        self.seconds = {name: load_s * share / whole for name, share in shares.items()}
        self._say("api_server.py:151", f"vLLM API server version {VERSION}")

    async def engine(self) -> None:
        """Start Python and CUDA."""
        await self._clock.sleep(self.seconds["engine"])
        model = self._flags.model
        self._say("llm_engine.py:98", f"Initializing an LLM engine (v{VERSION}) with model={model}")

    async def load(self, kv_tokens: int, gpu: str) -> None:
        """Read the weights, measure the memory, capture CUDA graphs."""
        self._log(
            f"INFO sandbox] time and memory are those of {STANDS_FOR.name} on a {gpu}, modelled, "
            f"not measured (time scale {self._clock.scale:g})"
        )
        await self._clock.sleep(self.seconds["weights"])
        weights = STANDS_FOR.weights_bytes / GIB
        self._say("model_runner.py:173", f"Loading model weights took {weights:.4f} GB")
        await self._clock.sleep(self.seconds["profile"])
        size = self._flags.block_size
        swapped = int(_SWAP / (size * STANDS_FOR.kv_bytes_per_token))
        blocks = f"# GPU blocks: {kv_tokens // size}, # CPU blocks: {swapped}"
        self._say("gpu_executor.py:119", blocks)
        if graphs_s := self.seconds.get("graphs"):
            self._say("model_runner.py:976", _GRAPHS)
            await self._clock.sleep(graphs_s)
            done = f"Graph capturing finished in {graphs_s:.0f} secs."
            self._say("model_runner.py:1057", done)

    def listens(self) -> None:
        """Say that it answers requests."""
        for text in (
            "Started server process [1]",
            "Waiting for application startup.",
            "Application startup complete.",
            f"Uvicorn running on http://0.0.0.0:{self._flags.port} (Press CTRL+C to quit)",
        ):
            self._log(f"INFO:     {text}")

    def _say(self, where: str, text: str) -> None:
        self._log(f"INFO {utc_now():%m-%d %H:%M:%S} {where}] {text}")
