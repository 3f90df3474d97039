"""How far predictions are off what was measured, and which error a calibration states."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from qwenkit.capacity.calibration.closed_loop import run_closed_loop
from qwenkit.capacity.calibration.fit import fit_speed, with_kernels_that_fit
from qwenkit.capacity.calibration.points import DecodePoint, Measurements, PrefillPoint, Run
from qwenkit.capacity.gpu import Gpu
from qwenkit.capacity.memory import fit
from qwenkit.capacity.step_time import kernel_of

CLOSED_METRICS = {"ttft": "ttft_p50_s", "e2e": "latency_mean_s", "throughput": "tokens_per_s"}
METRICS = ("decode", "prefill", *CLOSED_METRICS, "kv")
_NOISY_TOKENS = 2048  # the time of shorter prompts is the host's
_FEW = 9  # points, of which nine in ten cannot be told
_FITS = 2500  # times points: the more points, the more are left out at once
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
        """Return what it is."""
        return {"metric": self.metric, "run": self.run, "point": self.point}


@dataclass(frozen=True, slots=True)
class Calibration:
    """A card with its speed, kernels and error found; errors are shares.

    Of ten figures like the measured ones, nine are expected within its error; ``errors`` are the
    means by metric. ``left_out`` are the points, each predicted from all others.
    """

    gpu: Gpu
    points: int
    errors: dict[str, float | None]
    left_out: tuple[Judged, ...]


def calibrate(given: Measurements) -> Calibration:
    """Fit the card to the points, and find its error by leaving each of them out.

    The error is at least what the fit leaves uncertain of bandwidth and peak; with few points, at
    least that of a card that was not measured.
    """
    given = with_kernels_that_fit(given)
    whole = fit_speed(given)
    points = sum(len(run.points) for run in given.timed())
    judged = [figure for run in given.runs for figure in _memory(given, run)]
    turns = min(points, max(5, _FITS // max(1, points)))
    for turn in range(turns):
        rest, left_out = _parted(given, turn, turns)
        judged += (one for one in predict(left_out.at(fit_speed(rest).speed)) if one.metric != "kv")
    bands = [
        _MOST_SIGMA * max(whole.uncertain[name] for name in ("linear", "attention", "compute"))
    ]
    errors = sorted(abs(each.error) for each in judged if each.metric != "kv")
    if min(points, len(errors)) < _FEW:
        bands += [given.time(run).error for run in given.timed()]
    else:
        bands.append(errors[math.ceil(_MOST * (len(errors) + 1)) - 1])
    kernels = {
        (run.model.quantization, run.kernel)
        for run in given.timed()
        if run.kernel not in ("", kernel_of(run.model, given.gpu, v1=given.v1))
    }
    gpu = replace(given.gpu, speed=whole.speed, error=max(bands), kernels=tuple(sorted(kernels)))
    return Calibration(gpu, points, mean_errors(judged), tuple(judged))


def predict(measurements: Measurements, *, noisy: bool = False) -> list[Judged]:
    """Predict all that was measured.

    Of a run whose times do not count, the KV cache alone, and no short prompts, unless ``noisy``.
    """
    runs, timed = measurements.runs, measurements.runs if noisy else measurements.timed()
    judged = [one for run in timed for one in _times(measurements, run, noisy=noisy)]
    return judged + [one for run in runs for one in _memory(measurements, run)]


def mean_errors(judged: Iterable[Judged]) -> dict[str, float | None]:
    """Return each metric's mean absolute error, as a share; None where there is no point."""
    errors: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for each in judged:
        errors[each.metric].append(abs(each.error))
    return {metric: fmean(found) if found else None for metric, found in errors.items()}


def _parted(given: Measurements, turn: int, turns: int) -> tuple[Measurements, Measurements]:
    """Return the measurements without each ``turns``-th point, and those points alone."""
    rest, left_out, at = [], [], -turn
    for run in given.runs:
        ours = [one for n, one in enumerate(run.points, at) if n % turns == 0]
        others = [one for n, one in enumerate(run.points, at) if n % turns]
        at += len(run.points) if run in given.timed() else 0
        rest.append(replace(run, points=tuple(others)))
        left_out.append(replace(run, points=tuple(ours)))
    return replace(given, runs=tuple(rest)), replace(given, runs=tuple(left_out))


def _times(measurements: Measurements, run: Run, *, noisy: bool) -> Iterator[Judged]:
    time = measurements.time(run)
    for point in run.points:
        what = asdict(point)
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


def _memory(measurements: Measurements, run: Run) -> Iterator[Judged]:
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
