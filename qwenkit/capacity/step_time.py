"""How long one step of vLLM takes on a GPU: prompts, decoding or both, by one formula.

    step   = max(host, body) + sequences × sequence_s
    body   = step_s + linear(rows) + head + KV bytes read / bandwidth + attention's FLOPs / peak
    host   = layers × layer_s, which a CUDA graph (a decode step, unless eager) does not need

``linear`` depends on the kernel. fp16: the larger of reading the weights and computing. Marlin and
fp8: the same, with fewer bytes. ExLlama (GPTQ before vLLM 0.4.2, and on cards before Ampere)
computes outside the tensor cores in passes of 8 rows. ExLlama and the first AWQ kernel write all
weights as fp16 first, from a number of rows on. A CUDA graph pads the rows to the next size that
was captured. A step of a mixture reads 1 − (1 − k/E)^rows of its experts.

README.md of this folder lists the constants, with the comments here, and compares the model with
what was measured. Their sources: "H200" (vLLM 0.26 on one, tests/data/gpu/h200-vllm-0.26.json),
"published" (fitted to tests/data/gpu/published-speed.json), vLLM's code, or "estimate".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from qwenkit.capacity.gpu import Gpu, Model
from qwenkit.capacity.scheduler import Step
from qwenkit.errors import InvalidValue

_MEMORY = 0.756  # of the bandwidth, by a GEMM of few rows: H200
_WIDE = 3584  # hidden size; narrower models reach less, by the square root: published (A100)
_FAST_GB_S = 2039  # that card's bandwidth; a slower one keeps up with narrower models: published
# A kernel's shares of what fp16 reaches: of the bandwidth with 8 bits and with 4, of the peak.
_KERNELS = {
    "fp16": (1.0, 1.0, 1.0),  # H200
    "marlin": (0.88, 0.7, 0.9),  # published (A100, H100); of the peak: an estimate
    "awq": (0.34, 0.34, 0.35),  # published (A100, vLLM 0.4.2); of the peak: an estimate
    "fp8": (1.0, 1.0, 1.6),  # estimate
    "other": (0.4, 0.4, 0.35),  # estimate
}
# What can run a quantization.
KERNELS_OF = {
    "gptq": ("exllama", "marlin"),
    "compressed-tensors": ("exllama", "marlin"),
    "awq": ("awq", "marlin"),
    "fp8": ("fp8", "marlin"),
}
# Rows up to which a kernel reads packed weights, of 8 bits and of 4; with more, it writes fp16.
_PACKED_ROWS = {
    "exllama": (24, 50),  # vLLM's csrc/quantization/gptq/q_gemm.cu
    "awq": (255, 255),  # vLLM's model_executor/layers/quantization/awq.py
}
_ROUTING_S = 20e-6  # seconds, to find the experts of a layer: published
_PASS = 8  # rows that ExLlama computes at once: vLLM's q_gemm.cu
_FLOPS_PER_WEIGHT = 65.0  # of ExLlama, for a row and 8 bits: H200; half with 4 bits: published
_UNPACKED = 0.61  # of the bandwidth, while weights are written as fp16: H200
_AFTER_UNPACKING = 1.1  # the time of the GEMM that follows, of fp16's: H200
_LAYERS = 32  # with which step_s was measured; half of it grows with them: published
_FEW = 32  # sequences, after which one more takes the host less: H200
_BEYOND_FEW = 0.7  # how much of it: H200
_V0_SEQUENCE_S = 110e-6  # that the host takes longer for a sequence before V1: published throughput
_PAGED = 0.65  # of a cached token's reads, one for each query head, in vLLM 0.4: published
_REDUCE_S = {
    "NVLink": 15e-6,  # seconds of one all-reduce of few rows: estimate, near what is published
    "PCIe": 40e-6,  # estimate
}
_LARGEST_GRAPH = 512  # rows: vLLM's configuration
# Of which kernels a whole server was measured, by compute capability.
_MEASURED = {
    8.0: ("fp16", "exllama", "marlin", "awq"),  # A100: published
    8.6: ("fp16",),  # A40 and A10G: published
    8.9: ("fp16",),  # RTX 4090: published
    9.0: ("fp16", "exllama", "marlin"),  # H200; H100: published
}
_MEASURED_ERROR = 0.25  # of a kernel measured on such a card: published
_NEAR_ERROR = 0.4  # of one measured on another card with such tensor cores: estimate
_UNMEASURED_ERROR = 0.6  # of all others: estimate
_EAGER_ERROR = 0.5  # at least, without CUDA graphs: the host decides, and hosts differ: H200


def kernel_of(model: Model, gpu: Gpu, *, v1: bool = True) -> str:
    """Return which of vLLM's kernels computes the linear layers.

    GPTQ and AWQ run on Marlin from capability 8.0 on, in releases that have the V1 engine too,
    unless a calibration found another.
    """
    method, ampere = model.quantization, gpu.compute_capability >= 8.0
    if method in (found := dict(gpu.kernels)):
        return found[method]
    if method in ("", "none"):
        return "fp16"
    if "marlin" in method or (v1 and ampere and method in ("gptq", "awq", "compressed-tensors")):
        return "marlin"
    if "fp8" in method:
        return "fp8" if gpu.compute_capability >= 8.9 else "marlin"
    return {"gptq": "exllama", "awq": "awq"}.get(method, "other")


@dataclass(frozen=True, slots=True)
class StepTime:
    """The seconds of a step; ``model`` is one GPU's part (``Model.split``).

    ``eager`` is vLLM without CUDA graphs, ``v1`` its V1 engine. ``clock`` is how many times faster
    than the modelled GPU all is.
    """

    gpu: Gpu
    model: Model
    eager: bool = False
    v1: bool = True
    kernel: str = ""
    clock: float = 1.0
    # Not of ``replace``: at another clock they are others.
    _lines: dict[int, tuple[float, float, float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _sequence_s: float = field(default=0.0, init=False, repr=False, compare=False)
    _known: dict[tuple[int, bool], tuple[float, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.kernel:
            object.__setattr__(self, "kernel", kernel_of(self.model, self.gpu, v1=self.v1))
        each_s = self.gpu.speed.sequence_s + (0.0 if self.v1 else _V0_SEQUENCE_S)
        object.__setattr__(self, "_sequence_s", each_s / self.clock)

    @property
    def measured(self) -> bool:
        """Whether a server with such a kernel was measured on such a card, or it is calibrated."""
        kernels = _MEASURED.get(self.gpu.compute_capability, ())
        known = self.kernel in kernels and not self.model.expert_share
        return self.gpu.error is not None or known

    @property
    def error(self) -> float:
        """By which share a time may be wrong."""
        if self.gpu.error is not None:
            return self.gpu.error
        tensor_cores = 8.0 <= self.gpu.compute_capability <= 9.0
        near = tensor_cores and any(self.kernel in kernels for kernels in _MEASURED.values())
        least = _EAGER_ERROR if self.eager else 0.0
        known = _MEASURED_ERROR if self.measured else _NEAR_ERROR if near else _UNMEASURED_ERROR
        return max(least, known)

    def step(
        self, rows: int, sequences: int, kv_tokens: float, pairs: float = 0.0, *, prompts: bool
    ) -> float:
        """Return the seconds of any step.

        ``rows`` are all its tokens, ``kv_tokens`` those that its sequences hold after it,
        ``pairs`` of tokens are attended by the prompts in it; ``prompts`` says whether it has any.
        """
        known = self._known.get((rows, prompts)) or self._of_rows(rows, prompts)
        body, per_token, host, pair_s = known
        seconds = body + kv_tokens * per_token + pairs * pair_s
        return (seconds if seconds > host else host) + self._of_sequences(sequences)

    def of(self, step: Step) -> float:
        """Return the seconds of a scheduled step; of several at once, the first one's."""
        held, pairs = step.kv_tokens, step.prefill_pairs
        return self.step(step.rows, step.sequences, held, pairs, prompts=step.prefill_tokens > 0)

    def decode_line(self, sequences: int) -> tuple[float, float, float]:
        """Return a decode step's seconds without KV cache, those of a token in it, and the least.

        A step that reads C tokens of KV cache takes ``max(first + C × second, third)``.
        """
        line = self._lines.get(sequences)
        if line is None:
            body, per_token, host, _ = self._of_rows(sequences, False)
            rest = self._of_sequences(sequences)
            line = self._lines[sequences] = body + rest, per_token, host + rest
        return line

    def decode(self, sequences: int, context_tokens: float) -> float:
        """Return the seconds of a decode step; each sequence holds ``context_tokens``.

        Raises:
            InvalidValue: no sequence, or a negative context.
        """
        if sequences < 1:
            raise InvalidValue("batch", sequences, "at least 1")
        _check_tokens("context_tokens", context_tokens)
        first, each, least = self.decode_line(sequences)
        return max(first + sequences * context_tokens * each, least)

    def prefill(self, tokens: int) -> float:
        """Return the seconds in which a prompt is read alone, at once.

        Raises:
            InvalidValue: a negative number of tokens.
        """
        _check_tokens("tokens", tokens)
        return self.step(tokens, 1, tokens, tokens * (tokens + 1) / 2, prompts=True)

    def _of_sequences(self, sequences: int) -> float:
        """Return the host's seconds for the sequences of a step."""
        many = sequences - _FEW if sequences > _FEW else 0
        return (sequences - many + _BEYOND_FEW * many) * self._sequence_s

    def _of_rows(self, rows: int, prompts: bool) -> tuple[float, ...]:
        """Compute the seconds of the rows, of a token in the KV cache, of the host, of a pair."""
        speed, model = self.gpu.speed, self.model
        graph = not (prompts or self.eager or rows > _LARGEST_GRAPH)
        padded = _padded(rows) if graph else rows
        small = speed.step_s * (1 + model.layers / _LAYERS) / 2
        head = self._reading(model.head_bytes)
        parts = (
            small + self._linear(padded, rows) + head + self._reduce(padded),
            self._kv_bytes() / self._bytes_per_s(speed.attention),
            0.0 if graph else model.layers * speed.layer_s,
            4.0 * model.layers * model.attention_width / self._flops_per_s(),
        )
        found = self._known[rows, prompts] = tuple(part / self.clock for part in parts)
        return found

    def _linear(self, rows: int, tokens: int) -> float:
        """Return the seconds of all linear layers; some of the ``rows`` may pad the ``tokens``."""
        model, wide = self.model, self.model.bits >= 8
        few = _PACKED_ROWS.get(self.kernel, (rows, rows))[0 if wide else 1]
        if rows > few:
            return self._unpacked(rows)
        if self.kernel == "exllama":
            return self._exllama(rows)
        *memory, compute = _KERNELS[self.kernel]
        share = memory[0 if wide else 1]
        touched = 1 - (1 - model.expert_share) ** tokens if model.expert_share else 0.0
        experts = self._reading(model.expert_bytes * touched, share, _WIDE)  # one kernel for all
        experts += _ROUTING_S * model.layers if touched else 0.0
        flops = 2.0 * model.linear_parameters * rows
        return max(
            self._reading(model.linear_bytes, share) + experts,
            flops / (self._flops_per_s() * compute),
        )

    def _unpacked(self, rows: int) -> float:
        """Return the seconds to write all weights as fp16 and to compute with those."""
        written = 2.0 * self.model.linear_parameters
        moved = self.model.linear_bytes + written
        unpacking = moved / self._bytes_per_s(_UNPACKED) * self.gpu.speed.linear
        computing = written * rows / self._flops_per_s()
        return unpacking + _AFTER_UNPACKING * max(self._reading(written), computing)

    def _exllama(self, rows: int) -> float:
        model, gpu = self.model, self.gpu
        per_weight = _FLOPS_PER_WEIGHT * (1.0 if model.bits >= 8 else 0.5)
        peak = (gpu.vector_tflops or gpu.fp16_tflops / 4) * 1e12
        computed = model.linear_parameters * per_weight / peak * gpu.speed.linear
        return max(self._reading(model.linear_bytes), computed) * _passes(rows)

    def _reading(self, size: float, share: float = 1.0, width: int = 0) -> float:
        """Return the seconds in which a GEMM of few rows reads weights."""
        width = width or self.model.hidden
        slower = max(1.0, _FAST_GB_S / self.gpu.bandwidth_gb_s)
        reached = _MEMORY * share * min(1.0, math.sqrt(width / _WIDE * slower))
        return size / self._bytes_per_s(reached) * self.gpu.speed.linear

    def _kv_bytes(self) -> float:
        """Return the bytes that attention reads for a token of KV cache."""
        model = self.model
        if self.v1 or not model.kv_heads:
            return model.kv_bytes_per_token
        heads = 4.0 * model.layers * model.attention_width / model.kv_bytes_per_token
        return model.kv_bytes_per_token * max(1.0, _PAGED * heads)  # heads that share one

    def _reduce(self, rows: int) -> float:
        """Return the seconds in which GPUs add up their parts, twice a layer."""
        model, gpu = self.model, self.gpu
        if model.gpus == 1:
            return 0.0
        alone = _REDUCE_S["NVLink" if gpu.link_gb_s > 100 else "PCIe"]
        sent = 2 * (model.gpus - 1) / model.gpus * rows * model.hidden * 2
        return 2 * model.layers * (alone + sent / (gpu.link_gb_s * 1e9))

    def _bytes_per_s(self, share: float) -> float:
        return self.gpu.bandwidth_gb_s * 1e9 * share

    def _flops_per_s(self) -> float:
        return self.gpu.fp16_tflops * 1e12 * self.gpu.speed.compute


def _passes(rows: int) -> float:
    """Return ExLlama's time for some rows, of its time for one: passes of 8, not flat ones."""
    passes, last = divmod(max(rows, 1) - 1, _PASS)
    if not passes:
        return 1 + 0.139 * last
    return 1.97 + 1.4 * (passes - 1) + 0.89 + 0.46 * min(1.0, last / 4)


def _padded(rows: int) -> int:
    """Return the size of the CUDA graph that vLLM captures for a batch: 1, 2, 4, 8, 16, 24 …."""
    if rows <= 8:
        return 1 << max(0, rows - 1).bit_length()
    step = 8 if rows <= 256 else 16
    return math.ceil(rows / step) * step


def _check_tokens(name: str, tokens: float) -> None:
    if not 0 <= tokens < math.inf:
        raise InvalidValue(name, tokens, "finite, at least 0")
