"""How many requests one pod should carry at a time.

A pod that always holds n requests has answered each of them once after

    round = answer tokens × decode step + n × what reading a prompt takes beside those steps

so it answers n / round a second. Goodput counts them only while TTFT and TPOT keep the objective.
It rises and falls with the batch: ExLlama is slower with 9 rows than with 8, and faster with 25
than with 24. So all batches are looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qwenkit.capacity.band import Band
from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.traffic import Lengths
from qwenkit.errors import InvalidValue

# Two runs of one server differ by 2 % end to end: a batch that gives this share of the greatest
# goodput cannot be told from the best, and the smallest of them is the quickest for each request.
_SHARE = 0.98
_P95 = math.log(20)  # of exponential waits, in means


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many requests one pod should carry, how many a second it answers, and what bounds it."""

    total: int
    per_s: Band
    bound: str


def suggested_load(
    server: VllmServer, lengths: Lengths, *, objective: Objective | None = None
) -> Load:
    """Return the smallest batch that gives nearly the greatest goodput.

    Raises:
        InvalidValue: the objective cannot be met, or not one request fits.
    """
    wanted = objective or Objective()
    limits = {"TPOT": wanted.tpot_p95_s or math.inf, "TTFT": wanted.ttft_p95_s or math.inf}
    live = lengths.prompt_tokens + lengths.output_tokens / 2
    if not (by_kv := math.floor(server.kv_tokens / live)):
        rule = f"no request fits {server.gpu.name}: {server.kv_tokens} tokens of KV cache"
        raise InvalidValue("lengths", lengths, rule)
    rates, missed = list[float](), list[str]()
    for batch in range(1, min(server.max_num_seqs, by_kv) + 1):
        per_s, *times = _steady(server, lengths, batch)
        over = [name for at, name in zip(times, limits, strict=True) if at > limits[name]]
        if over and batch == 1:
            alone = Band.around(times[over[0] == "TTFT"], server.time.error).text("s")
            rule = f"{server.gpu.name} needs {alone} for one request alone"
            fix = "take a faster GPU, or loosen the objective"
            raise InvalidValue(f"{over[0].lower()}_p95_s", limits[over[0]], rule, fix)
        missed.append(f"{over[0]} objective" if over else "GPU's speed")
        rates.append(0.0 if over else per_s)
    best = max(rates)
    after = [*missed, "KV cache" if by_kv <= server.max_num_seqs else "server's --max-num-seqs"]
    total = next(batch for batch, rate in enumerate(rates, 1) if rate >= _SHARE * best)
    rate, error = rates[total - 1], server.time.error
    band = Band.over(rate, rate / (1 + error), rate / (1 - error))
    return Load(total=total, per_s=band, bound=after[rates.index(best) + 1])


def _steady(server: VllmServer, lengths: Lengths, batch: int) -> tuple[float, float, float]:
    """Return the requests a second of a pod that always holds ``batch``, their TPOT and TTFT p95.

    Users come at random moments; of their prompts, each is read for itself if it can be.
    """
    time, tokens, answer = server.time, lengths.prompt_tokens, lengths.output_tokens
    context = tokens + answer / 2
    step_s = time.decode(batch, context)
    together = max(1.0, batch / answer)  # prompts come together where answers are short
    rows, pairs = round(together * tokens), together * tokens * tokens / 2
    if time.v1:  # the step that reads prompts decodes the others: it only takes longer
        rows += round(batch - together)
        more_s = time.step(rows, batch, batch * context, pairs, prompts=True) - step_s
        decodes, first_s = answer, step_s + more_s
    else:
        more_s = time.step(rows, round(together), rows, pairs, prompts=True)
        decodes, first_s = answer - 1, more_s
    others_s = (batch / together - 1) * more_s
    round_s = decodes * step_s + more_s + others_s
    # Prompts wait for each other, in a queue of random arrivals and a constant service time.
    busy = others_s / round_s
    wait_s = min(others_s, _P95 * more_s * busy / (2 * (1 - busy))) + step_s * (batch > 1)
    return batch / round_s, step_s + others_s / max(1, answer - 1), first_s + wait_s
