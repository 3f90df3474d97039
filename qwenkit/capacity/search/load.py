"""How many requests one pod should carry at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.errors import InvalidValue

_GAIN = 1.2  # less than this share more tokens a second is not worth a batch twice as large


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many requests one pod should carry, and which bound decides it."""

    total: int
    bound: str


def suggested_load(
    server: VllmServer, *, live_tokens: float, tpot_p95_s: float | None = None
) -> Load:
    """Return the best concurrency of a pod: by TPOT objective, KV cache or the GPU's plateau.

    ``live_tokens`` is the mean number of tokens of a request in the KV cache. The plateau is the
    batch from which twice as many gain hardly any throughput: vLLM 0.4.1's GPTQ kernel has it at
    8 rows, since each 8 read the weights anew; others where the KV cache is larger than the
    weights, or the GPU computes longer than it reads.

    Raises:
        InvalidValue: the objective cannot be met, or not one sequence fits.
    """
    gpu, time = server.gpu, server.time
    if not 0 < live_tokens < math.inf:
        raise InvalidValue("live_tokens", live_tokens, "more than 0, finite")
    if not (by_kv := math.floor(server.kv_tokens / live_tokens)):
        rule = f"no sequence fits {gpu.name}: {server.kv_tokens} tokens of KV cache"
        raise InvalidValue("live_tokens", live_tokens, rule)

    def step_s(batch: int) -> float:
        return time.decode(batch, live_tokens)

    alone, wanted = step_s(1), tpot_p95_s or math.inf
    if alone > wanted:
        rule = f"{gpu.name} needs {alone * 1e3:.0f} ms per token even for one stream"
        raise InvalidValue("tpot_p95_s", tpot_p95_s, rule)
    most = plateau = 1
    while most < server.max_num_seqs and step_s(most + 1) <= wanted:
        most += 1
    while 2 * plateau < server.max_num_seqs and step_s(2 * plateau) * _GAIN < 2 * step_s(plateau):
        plateau *= 2
    bounds = {"TPOT objective": most, "KV cache": by_kv, "GPU's plateau": plateau}
    bound = min(bounds, key=lambda name: bounds[name])
    return Load(total=bounds[bound], bound=bound)
