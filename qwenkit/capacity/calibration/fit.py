"""Fit the speed of a card to what was measured of it.

Each parameter of ``Speed`` is its default times a factor near 1. Sought are the most probable
factors, given the points and how far cards and hosts differ from the default: one that no point
shows stays 1, and few points move little. What no other point confirms counts less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from qwenkit.capacity.calibration.points import DecodePoint, Measurements, PrefillPoint, Run
from qwenkit.capacity.gpu import CPU, Speed
from qwenkit.capacity.step_time import StepTime

# By which share a parameter differs between cards and hosts: a standard deviation, an estimate.
_PRIOR = {
    "linear": 0.2,
    "attention": 0.15,
    "compute": 0.2,
    "step_s": 0.4,
    "sequence_s": 0.4,
    "layer_s": 0.5,
}
_CPU_DEVIATIONS = 4.0  # as many: a CPU has no datasheet, and ours is a guess
_FARTHEST = 3.0  # of these deviations
_STEP_NOISE, _PROMPT_NOISE = 0.04, 0.08  # by which share equal measurements differ
_OUTLIER = 2.0  # of such noise: points farther off count less
_DELTA, _ENOUGH = 0.01, 0.003

# A figure: batch, tokens of each prompt that are read first, decode steps, context; what it took.
_Term = tuple[int, int, int, float, float, float]


def step_time(measurements: Measurements, run: Run, speed: Speed) -> StepTime:
    """Return how long the steps of a run take at that speed."""
    gpu = replace(measurements.gpu, speed=speed)
    return StepTime(gpu, run.model, run.eager, measurements.v1, run.kernel)


def fit_speed(measurements: Measurements) -> tuple[Speed, dict[str, float]]:
    """Return the most probable speed, and by which share each parameter is still uncertain."""
    start = measurements.gpu.speed
    wide = _CPU_DEVIATIONS if measurements.gpu.name == CPU.name else 1.0
    prior = {name: share * wide for name, share in _PRIOR.items()}
    timed = filter(measurements.timed, measurements.runs)
    runs = [(run, list(_terms(run))) for run in timed]

    def residuals(moved: Mapping[str, float]) -> list[float]:
        speed, found = _moved(start, prior, moved), list[float]()
        for run, terms in runs:
            time = step_time(measurements, run, speed)
            for batch, prompt, steps, context, took, noise in terms:
                predicted = _predicted(time, batch, prompt, steps, context)
                found.append(math.log(predicted / took) / noise)
        return found

    steps, sharpness = dict.fromkeys(_PRIOR, 0.0), dict.fromkeys(_PRIOR, 1.0)
    for _ in range(50):
        largest = 0.0
        for name, old in steps.items():
            found = residuals(steps)
            beside = residuals({**steps, name: old + _DELTA})
            slopes = [(b - a) / _DELTA for a, b in zip(found, beside, strict=True)]
            weights = [min(1.0, _OUTLIER / max(abs(each), 1e-9)) for each in found]
            pull = sum(w * s * r for w, s, r in zip(weights, slopes, found, strict=True))
            sharpness[name] = 1 + sum(w * s * s for w, s in zip(weights, slopes, strict=True))
            new = min(max(old - (pull + old) / sharpness[name], -_FARTHEST), _FARTHEST)
            steps[name], largest = new, max(largest, abs(new - old))
        if largest < _ENOUGH:
            break
    left = {name: prior[name] / math.sqrt(sharpness[name]) for name in steps}
    return _moved(start, prior, steps), left


def _moved(speed: Speed, prior: Mapping[str, float], steps: Mapping[str, float]) -> Speed:
    """Return a speed whose parameters are that many prior deviations away."""
    moved = {name: getattr(speed, name) * math.exp(prior[name] * by) for name, by in steps.items()}
    return replace(speed, **moved)


def _terms(run: Run) -> Iterable[_Term]:
    for point in run.points:
        if isinstance(point, DecodePoint):
            yield point.batch, 0, 1, point.context_tokens, point.tpot_s, _STEP_NOISE
        elif isinstance(point, PrefillPoint):
            yield 1, point.tokens, 0, 0, point.seconds, _PROMPT_NOISE
        else:
            batch, prompt, answer = point.clients, point.prompt_tokens, point.answer_tokens
            if point.latency_mean_s:
                context = prompt + answer / 2
                yield batch, prompt, answer - 1, context, point.latency_mean_s, _STEP_NOISE
            if point.ttft_p50_s and batch == 1:
                yield 1, prompt, 0, 0, point.ttft_p50_s, _PROMPT_NOISE


def _predicted(time: StepTime, batch: int, prompt: int, steps: int, context: float) -> float:
    """Return about what a batch takes that begins and ends together, as those of a closed loop."""
    rows = batch * prompt
    first = time.step(rows, batch, rows, rows * prompt / 2, prompts=True) if rows else 0.0
    return first + (steps * time.decode(batch, context) if steps else 0.0)
