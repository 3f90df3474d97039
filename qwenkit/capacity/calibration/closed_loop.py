"""A closed loop on vLLM's scheduler: all clients begin together, and none thinks."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean, median

from qwenkit.capacity.calibration.points import ClosedPoint, Run
from qwenkit.capacity.scheduler import V1, ScheduledSequence, SchedulerLimits, scheduler_of
from qwenkit.capacity.step_time import StepTime

_BLOCK, _PLENTY = 16, 2**24
_MOST_CLIENTS, _MOST_REQUESTS, _MOST_STEPS = 10_000, 10_000, 20_000  # that are simulated


def run_closed_loop(
    time: StepTime, run: Run, point: ClosedPoint, kv_tokens: int | None
) -> ClosedPoint:
    """Return the point with the figures that the model predicts; None where nothing ends.

    A client sends its next request in the step in which its last one ended. If each client ended
    more than two, its first one does not count. A loop of many requests is not run to its end.
    """
    blocks, step_tokens = (kv_tokens or _PLENTY) // _BLOCK, run.max_num_batched_tokens
    limits = SchedulerLimits(
        _BLOCK, blocks, run.max_num_seqs, step_tokens, _PLENTY, run.chunked_prefill
    )
    scheduler = scheduler_of(V1 if time.v1 else (0, 4, 1), limits)
    now, tokens = 0.0, 0
    sent: dict[ScheduledSequence, float] = {}
    first: dict[ScheduledSequence, float] = {}
    ended: list[tuple[ScheduledSequence, float]] = []

    def send(client: int) -> None:
        sequence = ScheduledSequence(client, point.prompt_tokens, point.answer_tokens)
        sent[sequence] = now
        scheduler.add(sequence)

    for client in range(point.clients if point.clients <= _MOST_CLIENTS else 0):
        send(client)
    most = max(_MOST_REQUESTS, 4 * point.clients)
    for _ in range(_MOST_STEPS):
        step = scheduler.schedule(most=math.inf)
        if not step.sequences or len(ended) > most:
            break
        # The KV cache grows by a token of each sequence a step; count with its mean.
        held = step.kv_tokens + step.sequences * (step.steps - 1) / 2
        prompts, pairs = bool(step.prefills), step.prefill_pairs
        each = time.step(step.rows, step.sequences, held, pairs, prompts=prompts)
        left = round((point.seconds - now) / each)  # the loop ends with a step, near that second
        if left < 1:
            break
        if left < step.steps:
            scheduler.cut(step, left)
        now += each * step.steps
        tokens += step.steps * (step.sequences - len(step.prefills))
        for sequence, _ in step.prefills:
            if sequence.end >= 0:  # its whole prompt is read
                first.setdefault(sequence, now)
                tokens += 1
        for sequence in scheduler.release():
            ended.append((sequence, now))
            send(sequence.name)
    if len(ended) > 2 * point.clients:
        ended = [(one, at) for one, at in ended if sent[one]]
    return replace(
        point,
        ttft_p50_s=median(first[one] - sent[one] for one, _ in ended) if ended else None,
        latency_mean_s=fmean(at - sent[one] for one, at in ended) if ended else None,
        tokens_per_s=tokens / now if now else None,
    )
