"""vLLM's metrics in Prometheus' text format."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TPOT = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_E2E = (1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
_CHOICES = (1.0, 2.0, 5.0, 10.0, 20.0)
_CLOCK = "In the sandbox: modelled seconds divided by its time scale."


@dataclass
class Histogram:
    """Counts of observations by upper bound."""

    bounds: Sequence[float]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count ``value`` in the smallest bucket that holds it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, label: str) -> Iterable[str]:
        """Yield the cumulative buckets, the sum and the count."""
        seen = 0
        for bound, number in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            seen += number
            yield f'{name}_bucket{{le="{bound}",{label}}} {float(seen)}'
        yield f"{name}_count{{{label}}} {float(seen)}"
        yield f"{name}_sum{{{label}}} {self.total}"


@dataclass
class Metrics:
    """What one engine has done, and what it is doing."""

    model_name: str
    max_model_len: int
    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    finished: dict[str, int] = field(default_factory=lambda: {"stop": 0, "length": 0, "abort": 0})
    first_token: Histogram = field(default_factory=lambda: Histogram(_TTFT))
    per_token: Histogram = field(default_factory=lambda: Histogram(_TPOT))
    request: Histogram = field(default_factory=lambda: Histogram(_E2E))
    best_of: Histogram = field(default_factory=lambda: Histogram(_CHOICES))
    n: Histogram = field(default_factory=lambda: Histogram(_CHOICES))
    request_prompt: Histogram = field(init=False)
    request_generation: Histogram = field(init=False)

    def __post_init__(self) -> None:
        self.request_prompt = Histogram(_one_two_five(self.max_model_len))
        self.request_generation = Histogram(_one_two_five(self.max_model_len))

    def asked(self, n: int, best_of: int) -> None:
        """Count a request by how many answers it asks for."""
        self.n.observe(n)
        self.best_of.observe(best_of)

    def ended(self, reason: str, *, prompt: int, made: int, seconds: float) -> None:
        """Count an answer that has ended, by its tokens and its time."""
        self.finished[reason] += 1
        self.request.observe(seconds)
        self.request_prompt.observe(prompt)
        self.request_generation.observe(made)

    def text(self) -> str:
        """Return the exposition."""
        name = self.model_name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        label = f'model_name="{name}"'
        lines: list[str] = []
        for metric, value, about in self._gauges():
            lines += [f"# HELP {metric} {about}", f"# TYPE {metric} gauge"]
            lines.append(f"{metric}{{{label}}} {float(value)}")
        for metric, value, about in self._counters():
            lines += [f"# HELP {metric} {about}", f"# TYPE {metric} counter"]
            lines.append(f"{metric}{{{label}}} {float(value)}")
        lines += self._finished(label)
        for metric, histogram, about in self._histograms():
            lines += [f"# HELP {metric} {about}", f"# TYPE {metric} histogram"]
            lines += histogram.lines(metric, label)
        return "\n".join(lines) + "\n"

    def _gauges(self) -> list[tuple[str, float, str]]:
        full = "1 means 100 percent usage."
        return [
            (
                "vllm:num_requests_running",
                self.running,
                "Number of requests currently running on GPU.",
            ),
            (
                "vllm:num_requests_waiting",
                self.waiting,
                "Number of requests waiting to be processed.",
            ),
            ("vllm:num_requests_swapped", 0, "Number of requests swapped to CPU."),
            ("vllm:gpu_cache_usage_perc", self.cache_usage, f"GPU KV-cache usage. {full}"),
            ("vllm:cpu_cache_usage_perc", 0, f"CPU KV-cache usage. {full}"),
        ]

    def _counters(self) -> list[tuple[str, float, str]]:
        return [
            (
                "vllm:num_preemptions_total",
                self.preemptions,
                "Cumulative number of preemption from the engine.",
            ),
            ("vllm:prompt_tokens_total", self.prompt_tokens, "Number of prefill tokens processed."),
            (
                "vllm:generation_tokens_total",
                self.generation_tokens,
                "Number of generation tokens processed.",
            ),
        ]

    def _histograms(self) -> list[tuple[str, Histogram, str]]:
        latency = "Histogram of end to end request latency in seconds."
        return [
            (
                "vllm:time_to_first_token_seconds",
                self.first_token,
                f"Histogram of time to first token in seconds. {_CLOCK}",
            ),
            (
                "vllm:time_per_output_token_seconds",
                self.per_token,
                f"Histogram of time per output token in seconds. {_CLOCK}",
            ),
            ("vllm:e2e_request_latency_seconds", self.request, f"{latency} {_CLOCK}"),
            (
                "vllm:request_prompt_tokens",
                self.request_prompt,
                "Number of prefill tokens processed.",
            ),
            (
                "vllm:request_generation_tokens",
                self.request_generation,
                "Number of generation tokens processed.",
            ),
            (
                "vllm:request_params_best_of",
                self.best_of,
                "Histogram of the best_of request parameter.",
            ),
            ("vllm:request_params_n", self.n, "Histogram of the n request parameter."),
        ]

    def _finished(self, label: str) -> list[str]:
        metric = "vllm:request_success_total"
        lines = [f"# HELP {metric} Count of successfully processed requests."]
        lines.append(f"# TYPE {metric} counter")
        for reason, number in self.finished.items():
            lines.append(f'{metric}{{finished_reason="{reason}",{label}}} {float(number)}')
        return lines


def _one_two_five(most: int) -> tuple[float, ...]:
    """Return 1, 2, 5, 10, 20, 50 and so on, up to ``most``."""
    steps = (float(digit * 10**power) for power in range(len(str(most))) for digit in (1, 2, 5))
    return tuple(step for step in steps if step <= most)
