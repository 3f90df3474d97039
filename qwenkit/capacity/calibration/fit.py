"""Fit the speed of a card to what was measured of it.

Each parameter of ``Speed`` is its default times a factor near 1. Sought are the most probable
factors, given the points and how far cards and hosts differ from the default: one that no point
shows stays 1, and few points move little. What no other point confirms counts less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from qwenkit.capacity.calibration.points import DecodePoint, Measurements, PrefillPoint, Run
from qwenkit.capacity.gpu import Speed
from qwenkit.capacity.step_time import StepTime

# By how much, as a share, a parameter differs between cards and hosts (standard deviation).
_PRIOR = {
    "linear": 0.2,
    "attention": 0.15,
    "compute": 0.2,
    "step_s": 0.4,
    "sequence_s": 0.4,
    "layer_s": 0.5,
}
_FARTHEST = 3.0  # of these deviations
_STEP_NOISE, _PROMPT_NOISE = 0.04, 0.08  # by which share equal measurements differ
_OUTLIER = 2.0  # of such noise: points farther off count less
_DELTA, _ENOUGH = 0.01, 0.003

_Terms = list[tuple[Run, Callable[[StepTime], float], float, float]]


def step_time(measurements: Measurements, run: Run, speed: Speed) -> StepTime:
    """Return how long the steps of a run take at that speed."""
    gpu = replace(measurements.gpu, speed=speed)
    return StepTime(gpu, run.model, run.eager, measurements.v1, run.kernel)


def fit_speed(measurements: Measurements) -> tuple[Speed, dict[str, float]]:
    """Return the most probable speed, and by which share each parameter is still uncertain.

    Runs without CUDA graphs do not count: what they take, the host decides.
    """
    terms = [(run, *term) for run in measurements.runs if not run.eager for term in _terms(run)]
    at = dict.fromkeys(_PRIOR, 0.0)  # in prior deviations
    found = _residuals(measurements, terms, at)
    sharpness = dict.fromkeys(_PRIOR, 1.0)
    for _ in range(50):
        largest = 0.0
        for name, old in at.items():
            moved = _residuals(measurements, terms, at | {name: old + _DELTA})
            slopes = [(b - a) / _DELTA for a, b in zip(found, moved, strict=True)]
            weights = [min(1.0, _OUTLIER / max(abs(each), 1e-9)) for each in found]
            pull = sum(w * s * r for w, s, r in zip(weights, slopes, found, strict=True))
            sharpness[name] = 1 + sum(w * s * s for w, s in zip(weights, slopes, strict=True))
            new = min(max(old - (pull + old) / sharpness[name], -_FARTHEST), _FARTHEST)
            at[name], largest = new, max(largest, abs(new - old))
            found = _residuals(measurements, terms, at)
        if largest < _ENOUGH:
            break
    left = {name: _PRIOR[name] / math.sqrt(sharpness[name]) for name in at}
    return moved_speed(measurements.gpu.speed, at), left


def moved_speed(speed: Speed, steps: dict[str, float]) -> Speed:
    """Return a speed whose parameters are that many prior deviations away."""
    moved = {name: getattr(speed, name) * math.exp(_PRIOR[name] * by) for name, by in steps.items()}
    return replace(speed, **moved)


def _residuals(measurements: Measurements, terms: _Terms, steps: dict[str, float]) -> list[float]:
    """Return how far off each prediction is, of the noise."""
    speed = moved_speed(measurements.gpu.speed, steps)
    times = {run.name: step_time(measurements, run, speed) for run in measurements.runs}
    return [math.log(of(times[run.name]) / took) / noise for run, of, took, noise in terms]


def _terms(run: Run) -> Iterable[tuple[Callable[[StepTime], float], float, float]]:
    """Yield how each figure is predicted, what was measured, and its noise."""
    for point in run.points:
        if isinstance(point, DecodePoint):
            yield _decode(point.batch, point.context_tokens), point.tpot_s, _STEP_NOISE
        elif isinstance(point, PrefillPoint):
            yield _together(1, point.tokens, 1), point.seconds, _PROMPT_NOISE
        else:
            batch, prompt = min(point.clients, run.max_num_seqs), point.prompt_tokens
            if point.latency_mean_s:
                of = _together(batch, prompt, point.answer_tokens)
                yield of, point.latency_mean_s, _STEP_NOISE
            if point.ttft_p50_s and batch == 1:
                yield _together(1, prompt, 1), point.ttft_p50_s, _PROMPT_NOISE


def _decode(batch: int, context: float) -> Callable[[StepTime], float]:
    return lambda time: time.decode(batch, context)


def _together(batch: int, prompt: int, answer: int) -> Callable[[StepTime], float]:
    """Return about the latency of a batch that begins and ends together, as in a closed loop."""
    rows = batch * prompt
    pairs, context = rows * prompt / 2, prompt + answer / 2

    def latency(time: StepTime) -> float:
        first = time.step(rows, batch, rows, pairs, prompts=True)
        return first + (answer - 1) * time.decode(batch, context)

    return latency
