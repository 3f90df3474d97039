"""How far predictions are off what was measured, and which error a calibration states."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count
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
    found, judged = fit_speed(given), list[Judged]()
    points = sum(len(run.points) for run in given.timed())
    turns = min(points, max(5, _FITS // max(1, points)))
    for turn in range(turns):
        rest, left_out = _parted(given, turn, turns)
        judged += _times(left_out.at(fit_speed(rest).speed))
    errors = sorted(abs(each.error) for each in judged)
    bands = [_MOST_SIGMA * max(found.uncertain[name] for name in _SHARES)]
    if min(points, len(errors)) < _FEW:
        bands += [given.time(run).error for run in given.timed()]
    else:
        bands.append(errors[math.ceil(_MOST * (len(errors) + 1)) - 1])
    kernels = {
        (run.model.quantization, run.kernel)
        for run in given.timed()
        if run.kernel not in ("", kernel_of(run.model, given.gpu, v1=given.v1))
    }
    gpu = replace(given.gpu, speed=found.speed, error=max(bands), kernels=tuple(sorted(kernels)))
    judged += _memory(given)
    return Calibration(gpu, points, mean_errors(judged), tuple(judged))


def predict(measurements: Measurements, *, noisy: bool = False) -> list[Judged]:
    """Predict all that was measured.

    Of a run whose times do not count, the KV cache alone, and no short prompts, unless ``noisy``.
    """
    return [*_times(measurements, noisy=noisy), *_memory(measurements)]


def mean_errors(judged: Iterable[Judged]) -> dict[str, float | None]:
    """Return each metric's mean absolute error, as a share; None where there is no point."""
    errors: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for each in judged:
        errors[each.metric].append(abs(each.error))
    return {metric: fmean(found) if found else None for metric, found in errors.items()}


def _parted(given: Measurements, turn: int, turns: int) -> Iterator[Measurements]:
    """Yield the measurements without each ``turns``-th point, and those points alone."""
    for left_out in (False, True):
        number, runs = count(turn), []
        for run in given.timed():
            ours = (one for one in run.points if (next(number) % turns == 0) is left_out)
            runs.append(replace(run, points=tuple(ours)))
        yield replace(given, runs=tuple(runs))


def _times(given: Measurements, *, noisy: bool = False) -> Iterator[Judged]:
    runs = given.runs if noisy else given.timed()
    for run, point in [(one, point) for one in runs for point in one.points]:
        time, what = given.time(run), asdict(point)
        if isinstance(point, DecodePoint):
            predicted = time.decode(point.batch, point.context_tokens)
            yield Judged("decode", run.name, what, point.tpot_s, predicted)
        elif isinstance(point, PrefillPoint):
            if noisy or point.tokens >= _NOISY_TOKENS:
                yield Judged("prefill", run.name, what, point.seconds, time.prefill(point.tokens))
        else:
            kv_tokens = _kv_tokens(given, run) or run.kv_tokens
            loop = asdict(run_closed_loop(time, run, point, kv_tokens))
            for metric, name in CLOSED_METRICS.items():
                if what[name] and loop[name]:
                    yield Judged(metric, run.name, what, what[name], loop[name])


def _memory(given: Measurements) -> Iterator[Judged]:
    for run in given.runs:
        predicted = _kv_tokens(given, run)
        if run.kv_tokens and predicted is not None:
            yield Judged("kv", run.name, {"room_gib": run.room_gib}, run.kv_tokens, predicted)


def _kv_tokens(given: Measurements, run: Run) -> int | None:
    """Return how many tokens the KV cache holds, None where the room is not known."""
    if run.room_gib is None:
        return None
    gpu, tokens = replace(given.gpu, usable_gib=run.room_gib), run.max_num_batched_tokens
    v1 = tokens if given.v1 else None
    kv = fit(gpu, run.model, max_model_len=tokens, gpu_memory_utilization=1, batched_tokens=v1)
    return kv.kv_tokens
