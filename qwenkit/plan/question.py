"""The question that a plan answers: traffic, cluster and objective.

Invalid questions are refused by name before anything is simulated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.traces import read_trace
from qwenkit.capacity.simulation.traffic import ClosedLoop, Lengths, OpenLoop, Traffic, poisson
from qwenkit.cluster.preflight.cost import example_price
from qwenkit.errors import InvalidValue
from qwenkit.settings import Settings
from qwenkit.untrusted.files import read_text

_MOST_BYTES = 2**26
DEFAULT_SECONDS = 600.0
_MAX_CLIENTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The question about some settings; None for a default.

    At most one of ``clients`` (closed loop), ``rate_per_s`` (Poisson) and ``trace`` (the text of
    recorded arrivals); without any, the settings' ``load_clients``. ``seconds`` is the traffic's
    duration, ``startup_s`` a pod's cold start (None: estimated), ``gpus`` the pods that get a GPU.
    ``compare`` asks for other autoscalers too.
    """

    clients: int | None = None
    rate_per_s: float | None = None
    trace: str | None = None
    seconds: float | None = None
    prompt_tokens: int = 256
    answer_tokens: int = 128
    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None
    startup_s: float | None = None
    price_per_gpu_hour: float | None = None
    gpus: int | None = None
    recommend: bool = True
    compare: bool = False

    @property
    def objective(self) -> Objective:
        """The limits that the service must meet."""
        return Objective(ttft_p95_s=self.ttft_p95_s, tpot_p95_s=self.tpot_p95_s)


@dataclass(frozen=True, slots=True)
class NamedTraffic:
    """The traffic of a question, its name, and what differs from what was recorded."""

    load: Traffic
    name: str
    notes: tuple[str, ...] = ()


def trace_text(path: Path) -> str:
    """Read a trace's text.

    Raises:
        InvalidValue: it cannot be read, or is not text.
    """
    try:
        return read_text(path, most=_MOST_BYTES)
    except (OSError, ValueError) as error:
        raise InvalidValue("trace", str(path), f"a text file: {error}") from error


def find_traffic(settings: Settings, question: Question) -> NamedTraffic:
    """Return the traffic of a question.

    Raises:
        InvalidValue: two kinds at once, or an invalid number or line.
    """
    kinds = {
        "--clients": question.clients,
        "--rate": question.rate_per_s,
        "--trace": question.trace,
    }
    given = [name for name, value in kinds.items() if value is not None]
    if len(given) > 1:
        raise InvalidValue("traffic", " and ".join(given), "one of --clients, --rate and --trace")
    seconds = DEFAULT_SECONDS if question.seconds is None else question.seconds
    if not 0 < seconds < math.inf:
        raise InvalidValue("seconds", seconds, "more than 0, finite")
    lengths = _lengths(settings, question)
    if question.trace is not None:
        return _trace(settings, question.trace, question.seconds or math.inf, lengths)
    if question.rate_per_s is not None:
        name = f"{question.rate_per_s:g} requests a second (Poisson) for {seconds:g} s"
        return NamedTraffic(poisson(question.rate_per_s, seconds, lengths=lengths), name)
    return _closed_loop(settings, question.clients, seconds, lengths)


def _lengths(settings: Settings, question: Question) -> Lengths:
    for name in ("prompt_tokens", "answer_tokens"):
        if getattr(question, name) < 1:
            raise InvalidValue(name, getattr(question, name), "at least 1")
    _check_length(settings, question.prompt_tokens, question.answer_tokens)
    return Lengths(question.prompt_tokens, question.answer_tokens)


def _closed_loop(
    settings: Settings, wanted: int | None, seconds: float, lengths: Lengths
) -> NamedTraffic:
    clients = settings.load_clients if wanted is None else wanted
    if not 1 <= clients <= _MAX_CLIENTS:
        raise InvalidValue("clients", clients, f"1 to {_MAX_CLIENTS}")
    name = f"{clients} closed-loop client{'s' * (clients > 1)} for {seconds:g} s"
    return NamedTraffic(ClosedLoop(((0.0, clients), (seconds, 0)), lengths), name)


def _trace(settings: Settings, text: str, seconds: float, lengths: Lengths) -> NamedTraffic:
    recorded, longest = read_trace(text, lengths=lengths), settings.max_model_len
    whole = [each for each in recorded.load.arrivals if each.at < seconds]
    served = [each for each in whole if each.prompt_tokens + each.output_tokens <= longest]
    if not served:
        _check_length(settings, *whole[0][1:])
    notes = recorded.notes
    if refused := len(whole) - len(served):
        notes += (f"{refused} longer than max_model_len {longest}: vLLM refuses them; left out",)
    count = len(served)
    name = f"{count} request{'s' * (count > 1)} of a trace in {served[-1].at:g} s"
    return NamedTraffic(OpenLoop(tuple(served)), name, notes)


def _check_length(settings: Settings, prompt: int, answer: int) -> None:
    if prompt + answer > settings.max_model_len:
        rule = f"at most max_model_len {settings.max_model_len} together: vLLM refuses more"
        raise InvalidValue("tokens", f"{prompt} in, {answer} out", rule)


def find_environment(settings: Settings, question: Question) -> Environment:
    """Return the cluster of a question; without a price, an example price is used, or 1.

    Raises:
        InvalidValue: a negative or infinite time or price, or too few GPUs.
    """
    start, price = question.startup_s, question.price_per_gpu_hour
    gpus, each = question.gpus, max(1, settings.gpu_count)
    if gpus is not None and gpus < each:
        raise InvalidValue("gpus", gpus, f"at least {each}, those of one replica")
    return Environment(
        gpus=None if gpus is None else gpus // each,
        startup_s=settings.cold_start.seconds.value if start is None else start,
        timeout_s=settings.request_timeout_s,
        response_start_timeout_s=settings.request_timeout_s,
        price_per_gpu_hour=(example_price(settings) or 1.0) if price is None else price,
    )
