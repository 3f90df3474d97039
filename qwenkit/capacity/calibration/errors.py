"""How far predictions are off what was measured, and which error a calibration states."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from qwenkit.capacity.calibration.closed_loop import run_closed_loop
from qwenkit.capacity.calibration.fit import fit_speed, step_time
from qwenkit.capacity.calibration.points import (
    DecodePoint,
    Measurements,
    Point,
    PrefillPoint,
    Run,
)
from qwenkit.capacity.gpu import Speed
from qwenkit.capacity.memory import fit

CLOSED_METRICS = {"ttft": "ttft_p50_s", "e2e": "latency_mean_s", "throughput": "tokens_per_s"}
METRICS = ("decode", "prefill", *CLOSED_METRICS, "kv")
_NOISY_TOKENS = 2048  # the time of shorter prompts is the host's
_FEW = 9  # points, of which nine in ten cannot be told
_SHARES = ("linear", "attention", "compute")
_MOST, _MOST_SIGMA = 0.9, 1.65  # of all figures; so many standard deviations hold them


@dataclass(frozen=True, slots=True)
class Judged:
    """A figure as it was measured and as it is predicted."""

    metric: str
    run: str
    point: dict[str, Any]
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """The prediction's error, as a share; negative if it is too low."""
        return self.predicted / self.measured - 1

    def where(self) -> dict[str, Any]:
        """Return what it is: metric, run, point."""
        return {"metric": self.metric, "run": self.run, "point": self.point}


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted speed and its errors, as shares.

    Of ten figures like the measured ones, nine are expected within ``error``; ``errors`` are the
    means by metric. ``left_out`` are the points, each predicted from all others.
    """

    speed: Speed
    points: int
    error: float
    errors: dict[str, float | None]
    left_out: tuple[Judged, ...]


def calibrate(measurements: Measurements) -> Calibration:
    """Fit the speed to the points, and find its error by leaving each of them out.

    The error is at least what the fit leaves uncertain of bandwidth and peak; with few points, at
    least that of a card that was not measured.
    """
    speed, uncertain = fit_speed(measurements)
    judged: list[Judged] = []
    points, bands = 0, [_MOST_SIGMA * max(uncertain[name] for name in _SHARES)]
    for at, run in enumerate(measurements.runs):
        for index, point in enumerate(run.points if measurements.timed(run) else ()):
            rest = replace(run, points=run.points[:index] + run.points[index + 1 :])
            runs = (*measurements.runs[:at], rest, *measurements.runs[at + 1 :])
            judged += _times(
                measurements, run, point, fit_speed(replace(measurements, runs=runs))[0]
            )
            points += 1
        judged += _memory(measurements, run)
    errors = sorted(abs(each.error) for each in judged if each.metric != "kv")
    if min(points, len(errors)) < _FEW:
        timed = filter(measurements.timed, measurements.runs)
        bands += [step_time(measurements, run, speed).error for run in timed]
    else:
        bands.append(errors[math.ceil(_MOST * (len(errors) + 1)) - 1])
    means = {metric: mean_error(judged, metric) for metric in METRICS}
    return Calibration(speed, points, max(bands), means, tuple(judged))


def predict(measurements: Measurements, speed: Speed, *, noisy: bool = False) -> list[Judged]:
    """Predict all that was measured.

    Of a run whose times do not count, the KV cache alone, and no short prompts, unless ``noisy``.
    """
    judged: list[Judged] = []
    for run in measurements.runs:
        for point in run.points if noisy or measurements.timed(run) else ():
            judged += _times(measurements, run, point, speed, noisy=noisy)
        judged += _memory(measurements, run)
    return judged


def mean_error(judged: Iterable[Judged], metric: str) -> float | None:
    """Return a metric's mean absolute error, as a share; None where there is no point."""
    errors = [abs(each.error) for each in judged if each.metric == metric]
    return fmean(errors) if errors else None


def _times(
    measurements: Measurements, run: Run, point: Point, speed: Speed, *, noisy: bool = False
) -> Iterable[Judged]:
    time, what = step_time(measurements, run, speed), asdict(point)
    if isinstance(point, DecodePoint):
        predicted = time.decode(point.batch, point.context_tokens)
        yield Judged("decode", run.name, what, point.tpot_s, predicted)
    elif isinstance(point, PrefillPoint):
        if noisy or point.tokens >= _NOISY_TOKENS:
            yield Judged("prefill", run.name, what, point.seconds, time.prefill(point.tokens))
    else:
        kv_tokens = _kv_tokens(measurements, run) or run.kv_tokens
        loop = asdict(run_closed_loop(time, run, point, kv_tokens))
        for metric, name in CLOSED_METRICS.items():
            if what[name] and loop[name]:
                yield Judged(metric, run.name, what, what[name], loop[name])


def _memory(measurements: Measurements, run: Run) -> Iterable[Judged]:
    predicted, measured = _kv_tokens(measurements, run), run.kv_tokens
    if measured and predicted is not None:
        yield Judged("kv", run.name, {"room_gib": run.room_gib}, measured, predicted)


def _kv_tokens(measurements: Measurements, run: Run) -> int | None:
    """Return how many tokens the KV cache holds, None where the room is not known."""
    if run.room_gib is None:
        return None
    gpu, tokens = replace(measurements.gpu, usable_gib=run.room_gib), run.max_num_batched_tokens
    v1 = tokens if measurements.v1 else None
    return fit(
        gpu, run.model, max_model_len=tokens, gpu_memory_utilization=1, batched_tokens=v1
    ).kv_tokens
