"""What does vLLM do while it starts, how long does each part take, and what does it log?

The parts share the node's ``load_s``, which is for Qwen-7B-Chat-Int8; reading the weights takes
longer or shorter by the bytes of the model that is stood for, not of the small files read here.
The lines are those of 0.4.1, and of 0.8 to 0.26 in one wording.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qwenkit.capacity.catalogue import QWEN_7B_INT8
from qwenkit.capacity.gpu import GIB
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.engine.flags import Flags
from qwenkit.sandbox.engine.hardware import Prepared
from qwenkit.sandbox.kube.objects import utc_now

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
        graphs = not flags.enforce_eager and not flags.release.cpu
        shares = {k: v for k, v in _SHARES.items() if k != "graphs" or graphs}
        whole = sum(shares.values())
        self.seconds = {name: load_s * share / whole for name, share in shares.items()}
        where = "api_server.py:1896" if flags.release.newer else "api_server.py:151"
        self._say(where, f"vLLM API server version {flags.release}")

    async def engine(self) -> None:
        """Start Python and CUDA."""
        await self._clock.sleep(self.seconds["engine"])
        release, model = self._flags.release, self._flags.model
        if not release.newer:
            text = f"Initializing an LLM engine (v{release}) with model={model}"
            self._say("llm_engine.py:98", text)
            return
        engine = "V1" if release.v1 else "V0"
        where = "core.py:75" if release.v1 else "llm_engine.py:240"
        text = f"Initializing a {engine} LLM engine (v{release}) with config: model='{model}'"
        self._say(where, text)

    async def load(self, prepared: Prepared) -> None:
        """Read the weights, measure the memory, capture CUDA graphs."""
        model = prepared.model
        self._log(
            f"INFO sandbox] time and memory are those of {model.name} on a {prepared.place}, "
            f"modelled, not measured (time scale {self._clock.scale:g})"
        )
        read_s = self.seconds["weights"] * model.weights_bytes / QWEN_7B_INT8.weights_bytes
        await self._clock.sleep(read_s)
        texts = self._texts(prepared, read_s)
        self._say(*texts["weights"])
        await self._clock.sleep(self.seconds["profile"])
        self._say(*texts["profile"])
        if graphs_s := self.seconds.get("graphs"):
            self._say("model_runner.py:976", _GRAPHS)
            await self._clock.sleep(graphs_s)
            self._say(*texts["graphs"])

    def _texts(self, prepared: Prepared, read_s: float) -> Mapping[str, tuple[str, str]]:
        size, kv_tokens = self._flags.block_size, prepared.hardware.kv_tokens
        weights = prepared.model.weights_bytes / GIB
        graphs_s = self.seconds.get("graphs", 0.0)
        swapped = int(_SWAP / (size * prepared.model.kv_bytes_per_token))
        done = f"Graph capturing finished in {graphs_s:.0f} secs"
        if not self._flags.release.newer:
            blocks = f"# GPU blocks: {kv_tokens // size}, # CPU blocks: {swapped}"
            return {
                "weights": ("model_runner.py:173", f"Loading model weights took {weights:.4f} GB"),
                "profile": ("gpu_executor.py:119", blocks),
                "graphs": ("model_runner.py:1057", f"{done}."),
            }
        loaded = f"Model loading took {weights:.4f} GiB and {read_s:.1f} seconds"
        return {
            "weights": ("gpu_model_runner.py:2392", loaded),
            "profile": ("kv_cache_utils.py:864", f"GPU KV cache size: {kv_tokens:,} tokens"),
            "graphs": ("gpu_model_runner.py:3118", f"{done}, took 0.20 GiB"),
        }

    def listens(self) -> None:
        """Say that it answers requests."""
        address = f"http://0.0.0.0:{self._flags.port}"
        texts = ["Started server process [1]", "Waiting for application startup."]
        texts.append("Application startup complete.")
        if self._flags.release.newer:
            self._say("api_server.py:1971", f"Starting vLLM API server 0 on {address}")
        else:
            texts.append(f"Uvicorn running on {address} (Press CTRL+C to quit)")
        for text in texts:
            self._log(f"INFO:     {text}")

    def _say(self, where: str, text: str) -> None:
        place = f"[{where}]" if self._flags.release.newer else f"{where}]"
        self._log(f"INFO {utc_now():%m-%d %H:%M:%S} {place} {text}")
