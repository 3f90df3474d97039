"""More shapes of open-loop traffic: constant, ramp, night and day, and vLLM's benchmark's."""

from __future__ import annotations

import math
from random import Random

from qwenkit.capacity.simulation.traffic import MAX_REQUESTS, Lengths, OpenLoop, check_size, varying
from qwenkit.errors import InvalidValue, QwenkitError


def constant(
    rate_per_s: float, duration_s: float, *, lengths: Lengths | None = None, seed: int = 0
) -> OpenLoop:
    """Return requests at equal distances; the first is due at once."""
    check_size(rate_per_s, duration_s)
    rng, lengths = Random(seed), lengths or Lengths()
    count = math.ceil(rate_per_s * duration_s)
    return OpenLoop(tuple(lengths.draw(n / rate_per_s, rng) for n in range(count)))


def ramp(
    first_per_s: float,
    last_per_s: float,
    duration_s: float,
    *,
    lengths: Lengths | None = None,
    seed: int = 0,
) -> OpenLoop:
    """Return Poisson arrivals whose mean rate goes straight from the first to the last."""
    most = max(first_per_s, last_per_s)

    def rate(at: float) -> float:
        return min(most, first_per_s + (last_per_s - first_per_s) * at / duration_s)

    return varying(rate, most, duration_s, lengths=lengths, seed=seed)


def night_and_day(
    night_per_s: float,
    day_per_s: float,
    duration_s: float,
    *,
    every_s: float = 86_400.0,
    lengths: Lengths | None = None,
    seed: int = 0,
) -> OpenLoop:
    """Return Poisson arrivals whose mean rate follows a cosine: least at 0, most at half a day.

    A day lasts ``every_s``.
    """
    if not 0 <= night_per_s <= day_per_s:
        raise InvalidValue("night_per_s", night_per_s, f"0 to day_per_s {day_per_s:g}")
    if not 0 < every_s < math.inf:
        raise InvalidValue("every_s", every_s, "more than 0, finite")

    def rate(at: float) -> float:
        share = (1 - math.cos(2 * math.pi * at / every_s)) / 2
        return min(day_per_s, night_per_s + (day_per_s - night_per_s) * share)

    return varying(rate, day_per_s, duration_s, lengths=lengths, seed=seed)


def like_vllm_bench(
    requests: int,
    rate_per_s: float,
    *,
    burstiness: float = 1.0,
    lengths: Lengths | None = None,
    seed: int = 0,
) -> OpenLoop:
    """Return the arrivals of ``vllm bench serve --request-rate R --burstiness B --seed S``.

    Gaps are gamma distributed: shape B (1: exponential, a Poisson process; less: more bursty),
    mean 1/R. All times are then scaled so that the last is N/R. Equal to the last bit to vLLM 0.32
    (``get_request`` in ``vllm/benchmarks/serve.py``), whose generator is NumPy's legacy one, for
    data sets that draw nothing from it, such as ``random`` and ``sharegpt``.

    Raises:
        InvalidValue: no request, or a rate or burstiness that is not positive and finite.
        QwenkitError: NumPy is not installed.
    """
    for name, value in (("rate_per_s", rate_per_s), ("burstiness", burstiness)):
        if not 0 < value < math.inf:
            raise InvalidValue(name, value, "more than 0, finite")
    if not 1 <= requests <= MAX_REQUESTS:
        raise InvalidValue("requests", requests, f"1 to {MAX_REQUESTS:,}")
    try:
        import numpy
    except ImportError:
        raise QwenkitError(
            "the arrivals of vllm bench cannot be made",
            "they come from NumPy's random numbers, and NumPy is not installed",
            "pip install 'qwenkit[sandbox]', or pip install numpy",
        ) from None
    draw = numpy.random.RandomState(seed)
    at, times = 0.0, []
    for _ in range(requests):
        at += draw.gamma(shape=burstiness, scale=1.0 / (rate_per_s * burstiness))
        times.append(at)
    scale = requests / rate_per_s / at if at else 1.0
    rng, lengths = Random(seed), lengths or Lengths()
    return OpenLoop(tuple(lengths.draw(float(at * scale), rng) for at in times))
