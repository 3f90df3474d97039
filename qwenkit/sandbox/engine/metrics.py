"""The metrics of one vLLM server, by vLLM's names of its release, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TPOT = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_E2E = (1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
_CHOICES = (1.0, 2.0, 5.0, 10.0, 20.0)
_CLOCK = "In the sandbox: modelled seconds divided by its time scale."
_FULL = "1 means 100 percent usage."
_PROMPT, _GENERATION = (f"Number of {kind} tokens processed." for kind in ("prefill", "generation"))

disable_created_metrics()  # type: ignore[no-untyped-call]  # as vLLM does


class Metrics:
    """The counts of one engine, each with the label ``model_name``.

    The names are 0.4.1's, or with ``renamed`` those of 0.12 and later, which swap nothing.
    """

    def __init__(self, model_name: str, max_model_len: int, *, renamed: bool = False) -> None:
        self.registry = CollectorRegistry()
        self._model_name = model_name
        if not renamed:
            # vLLM swaps sequences to the CPU; this engine recomputes them.
            self._gauge("num_requests_swapped", "Number of requests swapped to CPU.")
            self._gauge("cpu_cache_usage_perc", f"CPU KV-cache usage. {_FULL}")
        self.running = self._gauge(
            "num_requests_running", "Number of requests currently running on GPU."
        )
        self.waiting = self._gauge(
            "num_requests_waiting", "Number of requests waiting to be processed."
        )
        cache, per_token = "gpu_cache_usage_perc", "time_per_output_token"
        if renamed:
            cache, per_token = "kv_cache_usage_perc", "inter_token_latency"
        self.cache_usage = self._gauge(cache, f"GPU KV-cache usage. {_FULL}")
        self.preemptions = self._counter(
            "num_preemptions_total", "Cumulative number of preemption from the engine."
        )
        self.prompt_tokens = self._counter("prompt_tokens_total", _PROMPT)
        self.generation_tokens = self._counter("generation_tokens_total", _GENERATION)
        self.first_token = self._seconds("time_to_first_token", "time to first token", _TTFT)
        self.per_token = self._seconds(per_token, "time per output token", _TPOT)
        self._latency = self._seconds("e2e_request_latency", "end to end request latency", _E2E)
        lengths = _one_two_five(max_model_len)
        self._prompt_lengths = self._histogram("request_prompt_tokens", _PROMPT, lengths)
        self._answer_lengths = self._histogram("request_generation_tokens", _GENERATION, lengths)
        about = "Histogram of the {} request parameter."
        self._n = self._histogram("request_params_n", about.format("n"), _CHOICES)
        self._best_of = self._histogram("request_params_best_of", about.format("best_of"), _CHOICES)
        self._finished = self._finish_reasons()

    def count_request(self, n: int) -> None:
        """Count a request by the number of answers it asks for."""
        self._n.observe(n)
        self._best_of.observe(n)  # the same here: vLLM computes no more answers than it gives

    def count_answer(self, reason: str, *, prompt: int, generated: int, seconds: float) -> None:
        """Count an answer that has ended, by its tokens and its seconds."""
        self._finished.labels(self._model_name, reason).inc()
        self._latency.observe(seconds)
        self._prompt_lengths.observe(prompt)
        self._answer_lengths.observe(generated)

    def exposition(self) -> bytes:
        """Return the metrics in Prometheus' text format, version 0.0.4."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, about: str) -> Gauge:
        made = Gauge(f"vllm:{name}", about, ["model_name"], registry=self.registry)
        return made.labels(self._model_name)

    def _counter(self, name: str, about: str) -> Counter:
        made = Counter(f"vllm:{name}", about, ["model_name"], registry=self.registry)
        return made.labels(self._model_name)

    def _histogram(self, name: str, about: str, buckets: Sequence[float]) -> Histogram:
        made = Histogram(
            f"vllm:{name}", about, ["model_name"], buckets=buckets, registry=self.registry
        )
        return made.labels(self._model_name)

    def _seconds(self, name: str, what: str, buckets: Sequence[float]) -> Histogram:
        return self._histogram(
            f"{name}_seconds", f"Histogram of {what} in seconds. {_CLOCK}", buckets
        )

    def _finish_reasons(self) -> Counter:
        made = Counter(
            "vllm:request_success_total",
            "Count of successfully processed requests.",
            ("model_name", "finished_reason"),
            registry=self.registry,
        )
        for reason in ("stop", "length", "abort"):
            made.labels(self._model_name, reason)
        return made


def _one_two_five(most: int) -> tuple[float, ...]:
    """Return 1, 2, 5, 10, 20, 50 and so on, up to ``most``."""
    steps = (float(digit * 10**power) for power in range(len(str(most))) for digit in (1, 2, 5))
    return tuple(step for step in steps if step <= most)
