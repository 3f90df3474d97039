"""How many requests one pod should carry at a time.

A pod that always holds ``n`` requests takes this long until each was answered once:

    round = answer tokens × decode step + n × what reading a prompt takes between those steps

so it answers ``n / round`` requests a second. Goodput counts them only while TTFT and TPOT keep the
objective. It rises and falls with the batch: ExLlama is slower with 9 rows than with 8, and faster
with 25 than with 24. So all batches are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from qwenkit.capacity.band import Band
from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.traffic import Lengths
from qwenkit.errors import InvalidValue

# Two runs of one server differ by up to 4 %: a batch that gives this share of the greatest goodput
# cannot be told from the best, and the smallest such batch is the quickest for each request.
_SHARE = 0.95
_STILL_RISING = 0.9  # of the batches that are possible: goodput grows with the batch to their end
_P95 = math.log(20)  # of exponential waits, in means


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many requests one pod should carry, and which ``bound`` decides it.

    ``per_s`` is how many a second it answers then.
    """

    total: int
    bound: str
    per_s: Band


@dataclass(frozen=True, slots=True)
class _Round:
    """A pod that always holds so many requests: requests a second, and what one of them sees."""

    batch: int
    per_s: float
    ttft_s: float
    tpot_s: float

    def misses(self, objective: Objective) -> str:
        """Name the limit that it exceeds; empty if none."""
        if self.tpot_s > (objective.tpot_p95_s or math.inf):
            return "TPOT objective"
        return "TTFT objective" if self.ttft_s > (objective.ttft_p95_s or math.inf) else ""


def suggested_load(
    server: VllmServer, lengths: Lengths, *, objective: Objective | None = None
) -> Load:
    """Return the smallest batch that gives nearly the greatest goodput.

    Raises:
        InvalidValue: the objective cannot be met, or not one request fits.
    """
    wanted, gpu = objective or Objective(), server.gpu.name
    most = min(server.max_num_seqs, math.floor(server.kv_tokens / _live(lengths)))
    if not most:
        rule = f"no request fits {gpu}: {server.kv_tokens} tokens of KV cache"
        raise InvalidValue("lengths", lengths, rule)
    rounds = list(_rounds(server, lengths, most))
    good = [each for each in rounds if not each.misses(wanted)]
    if not good:
        alone = rounds[0]
        if alone.misses(wanted) == "TPOT objective":
            rule = f"{gpu} needs {alone.tpot_s * 1e3:.3g} ms per token even for one stream"
            raise InvalidValue("tpot_p95_s", wanted.tpot_p95_s, rule)
        rule = f"{gpu} needs {alone.ttft_s:.3g} s to read {lengths.prompt_tokens} tokens alone"
        raise InvalidValue("ttft_p95_s", wanted.ttft_p95_s, rule)
    best = max(good, key=lambda each: each.per_s)
    found = next(each for each in good if each.per_s >= _SHARE * best.per_s)
    bound = "GPU's speed"
    if found.batch + 1 > _STILL_RISING * best.batch:
        if best.batch < most:
            bound = rounds[best.batch].misses(wanted) or bound
        else:
            bound = "max_num_seqs" if most == server.max_num_seqs else "KV cache"
    return Load(total=found.batch, bound=bound, per_s=Band.rate(found.per_s, server.time.error))


def _live(lengths: Lengths) -> float:
    """Return the mean number of tokens that a request holds in the KV cache."""
    return lengths.prompt_tokens + lengths.output_tokens / 2


def _rounds(server: VllmServer, lengths: Lengths, most: int) -> Iterator[_Round]:
    """Yield what a pod does with 1, 2, 3 … requests at a time."""
    time, live = server.time, _live(lengths)
    tokens, answer = lengths.prompt_tokens, lengths.output_tokens
    for batch in range(1, most + 1):
        step_s = time.decode(batch, live)
        # In a batch that is larger than an answer is long, several prompts come at a time.
        together = max(1.0, batch / answer)
        rows, pairs = round(together * tokens), together * tokens * tokens / 2
        if time.v1:  # the step that reads prompts decodes the others: it only takes longer
            rows += round(batch - together)
            more_s = time.step(rows, batch, batch * live, pairs, prompts=True) - step_s
            decodes, first_s = answer, step_s + more_s
        else:
            more_s = time.step(rows, round(together), rows, pairs, prompts=True)
            decodes, first_s = answer - 1, more_s
        reading_s = batch / together * more_s
        round_s = decodes * step_s + reading_s
        others_s = reading_s - more_s
        # Prompts wait for each other: a queue with random arrivals and a constant service time.
        busy = others_s / round_s
        wait_s = min(others_s, _P95 * more_s * busy / (2 * (1 - busy)))
        if batch > 1:
            wait_s += step_s
        tpot_s = step_s + others_s / (answer - 1) if answer > 1 else 0.0
        yield _Round(batch, batch / round_s, first_s + wait_s, tpot_s)
