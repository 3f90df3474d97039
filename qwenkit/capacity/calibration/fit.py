"""Fit the speed of a card to what was measured of it.

Each parameter of ``Speed`` is its default times a factor near 1. Sought are the most probable
factors, given the points and how far cards and hosts differ from the default: one that no point
shows stays 1, and few points move little. What no other point confirms counts less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from qwenkit.capacity.calibration.points import DecodePoint, Measurements, PrefillPoint, Run
from qwenkit.capacity.gpu import CPU, Speed
from qwenkit.capacity.step_time import KERNELS_OF, StepTime

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
_DELTA, _ENOUGH, _MOST_TURNS = 0.01, 0.003, 20
_MOST_TERMS = 500  # of more, evenly many are left out
_CLEARLY = 4.0  # a kernel's misfit is at most half of the other's, less this

# What a figure took, its noise; batch, tokens of each prompt that is read first, steps, context.
_Term = tuple[float, float, tuple[int, int, int, float]]


class Fitted(NamedTuple):
    """The most probable speed, each parameter's share of doubt, and how far points are off."""

    speed: Speed
    uncertain: dict[str, float]
    misfit: float


def fit_speed(measurements: Measurements) -> Fitted:
    """Fit the speed of the card to all times that count."""
    start, wide = measurements.gpu.speed, measurements.gpu.name == CPU.name
    prior = {name: share * (_CPU_DEVIATIONS if wide else 1) for name, share in _PRIOR.items()}
    given = [(run, *term) for run in measurements.timed() for term in _terms(run)]
    given = given[:: 1 + len(given) // _MOST_TERMS]

    def moved(steps: Mapping[str, float]) -> Speed:
        factors = {name: math.exp(prior[name] * by) for name, by in steps.items()}
        return replace(start, **{name: getattr(start, name) * by for name, by in factors.items()})

    def residuals(steps: Mapping[str, float]) -> list[float]:
        at = measurements.at(moved(steps))
        times = {run.name: at.time(run) for run in measurements.runs}
        return [
            math.log(_predicted(times[run.name], *term) / took) / noise
            for run, took, noise, term in given
        ]

    steps, sharpness = dict.fromkeys(_PRIOR, 0.0), dict.fromkeys(_PRIOR, 1.0)
    for _ in range(_MOST_TURNS):
        largest, began, base = 0.0, residuals(steps), dict(steps)
        found = began
        for name, old in base.items():
            beside = residuals({**base, name: old + _DELTA})
            slopes = [(b - a) / _DELTA for a, b in zip(began, beside, strict=True)]
            weights = [min(1.0, _OUTLIER / max(abs(each), 1e-9)) for each in found]
            pull = sum(w * s * r for w, s, r in zip(weights, slopes, found, strict=True))
            sharpness[name] = 1 + sum(w * s * s for w, s in zip(weights, slopes, strict=True))
            new = min(max(old - (pull + old) / sharpness[name], -_FARTHEST), _FARTHEST)
            steps[name], largest = new, max(largest, abs(new - old))
            found = [r + s * (new - old) for r, s in zip(found, slopes, strict=True)]
        if largest < _ENOUGH:
            break
    left = {name: prior[name] / math.sqrt(sharpness[name]) for name in steps}
    misfit = sum(abs(each) for each in (*residuals(steps), *steps.values()))
    return Fitted(moved(steps), left, misfit)


def with_kernels_that_fit(measurements: Measurements) -> Measurements:
    """Return them with other kernels than their files say, where one fits clearly better.

    Settings say which kernel vLLM should choose; times tell which it chose.
    """

    def of(run: Run) -> Run:
        said = measurements.time(run).kernel
        able = KERNELS_OF.get(run.model.quantization, ()) if run in measurements.timed() else ()
        tried = [replace(run, kernel=kernel) for kernel in (said, *able)]
        misfits = [fit_speed(replace(measurements, runs=(one,))).misfit for one in tried]
        best = min(misfits)
        return tried[misfits.index(best)] if best < misfits[0] / 2 - _CLEARLY else run

    return replace(measurements, runs=tuple(map(of, measurements.runs)))


def _terms(run: Run) -> Iterable[_Term]:
    for point in run.points:
        if isinstance(point, DecodePoint):
            yield point.tpot_s, _STEP_NOISE, (point.batch, 0, 1, point.context_tokens)
        elif isinstance(point, PrefillPoint):
            yield point.seconds, _PROMPT_NOISE, (1, point.tokens, 0, 0)
        else:
            batch, prompt, answer = point.clients, point.prompt_tokens, point.answer_tokens
            if point.latency_mean_s:
                context = prompt + answer / 2
                yield point.latency_mean_s, _STEP_NOISE, (batch, prompt, answer - 1, context)
            if point.ttft_p50_s and batch == 1:
                yield point.ttft_p50_s, _PROMPT_NOISE, (1, prompt, 0, 0)


def _predicted(time: StepTime, batch: int, prompt: int, steps: int, context: float) -> float:
    """Return about what a batch takes that begins and ends together, as those of a closed loop."""
    rows = batch * prompt
    first = time.step(rows, batch, rows, rows * prompt / 2, prompts=True) if rows else 0.0
    return first + (steps * time.decode(batch, context) if steps else 0.0)
