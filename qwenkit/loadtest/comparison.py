"""A measured load beside its prediction: how well they agree, where they part and why.

``problems`` says in words what a load test must show and did not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from qwenkit.capacity.band import Band
from qwenkit.capacity.compare_run import SLACK_S, agreement, first_parting
from qwenkit.capacity.simulation.result import SimulationResult
from qwenkit.cluster.watching import ClusterSample, PodSample
from qwenkit.language import Shown
from qwenkit.loadtest.figures import FIGURES, measured, show
from qwenkit.loadtest.prediction import Prediction
from qwenkit.loadtest.timeline import Timeline, pod_seconds

_UNSCHEDULABLE = "Unschedulable"
# A request that takes no longer than this beside others, as a share of its time alone, does not
# feel them: a server that answers in a fixed time has no latency that could fall.
_UNFELT = 1.1


@dataclass(frozen=True, repr=False)
class SideBySide(Shown):
    """Two settings under the same load: ``rows`` under ``columns``, and in a sentence."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """A load test beside its prediction; of pods, those of the serving revision count.

    ``served_by`` counts answers by pod, empty where nothing tells. ``parts_at_s`` is the first
    second whose ready replicas were not predicted within two seconds, None if there is none.
    """

    start_ready: int
    peak_ready: int
    final_ready: int
    served_by: dict[str, int]
    agreement_percent: float
    parts_at_s: int | None
    parts_why: str
    clock: float
    predicted: dict[str, float]
    bands: dict[str, Band]
    """The same, each with how wrong the model may be."""
    measured: dict[str, float]
    ttft_s: dict[str, list[float]]
    """Of each answered request, predicted and measured."""
    requests: dict[str, int]
    errors: dict[str, int]
    latency_fell: tuple[float, float] | None
    """Median latency while the fewest and while the most replicas were ready."""
    alone_s: float
    """The latency of a request that runs alone."""
    problems: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return the fields of a record."""
        names = (
            *("start_ready", "peak_ready", "final_ready", "served_by", "agreement_percent"),
            *("parts_at_s", "parts_why", "clock", "requests", "errors", "predicted", "measured"),
        )
        edges = {
            f"predicted_{edge}": {name: getattr(band, edge) for name, band in self.bands.items()}
            for edge in ("low", "high")
        }
        return {name: getattr(self, name) for name in names} | edges

    def beside(self, after: Comparison) -> SideBySide:
        """Set this measurement and one under another setting side by side, predictions too."""
        figures = (self.bands, self.measured, after.bands, after.measured)
        rows = tuple(
            (name, *(show(each.get(key), unit) for each in figures))
            for key, name, unit, _ in FIGURES
        )

        def change(name: str) -> str:
            old, new = self.measured.get(name, 0.0), after.measured.get(name, 0.0)
            return f"{round(100 * (new / old - 1)):+} %" if old else f"{new:.3g}"

        sentence = (
            f"GPU-seconds {change('gpu_seconds')}, CNY per million tokens "
            f"{change('cny_per_million_tokens')}; for it TTFT p50 {change('ttft_p50_s')}, p95 "
            f"{change('ttft_p95_s')}, tokens/s {change('tokens_per_second')}.\nWithin the "
            f"objective are {100 * after.measured['goodput_share']:.0f} % of the requests, before "
            f"{100 * self.measured['goodput_share']:.0f} %."
        )
        columns = ("first setting, predicted", "measured", "second, predicted", "measured")
        return SideBySide((f"clock × {self.clock:g}", *columns), rows, sentence)

    def __str__(self) -> str:
        parts = "" if self.parts_at_s is None else f"; they part at {self.parts_at_s} s"
        lines = [
            f"ready replicas {self.start_ready} → {self.peak_ready} → {self.final_ready}, "
            f"predicted in {self.agreement_percent:g} % of the seconds{parts}",
            self.parts_why,
            *(f"{count} answers by {pod}" for pod, count in self.served_by.items()),
        ]
        if not self.served_by:
            lines.append("who answered is not told, by the gateway or by vLLM: readiness counts")
        if self.latency_fell:
            before, after = self.latency_fell
            lines.append(f"median latency {before:.3f} s, {after:.3f} s with all replicas ready")
            if before <= _UNFELT * self.alone_s:
                lines.append("a request took no longer than alone before: nothing was to fall")
        return "\n".join(filter(None, [*lines, *self.problems]))


def compare(predicted: Prediction, seen: Timeline, *, min_scale: int, most: int) -> Comparison:
    """Compare a load test with its prediction.

    ``problems`` name what is missing of this: no request failed, ``most`` replicas became ready
    and each answered before the last request was sent, on GPUs latency fell when they came (if
    requests had slowed each other down before), and at the end ``min_scale`` are left.

    >>> from qwenkit import Cluster, Settings, compare, find_server, predict, start_test
    >>> s = Settings(load_seconds=2)
    >>> expected = predict(s, Cluster.connect(s), find_server(s))
    >>> seen = start_test(s, expected.traffic).result()
    >>> compare(expected, seen, min_scale=0, most=3).start_ready
    1
    """
    samples = [sample for sample in seen.known if sample.at_s >= 0]
    result = predicted.result(seen.end_s)
    ready = [(sample.at_s, sample.served.ready) for sample in samples]
    parts_at = first_parting(result.ready, ready)
    summary = seen.load.summary()
    answers = measured(seen.load.requests)
    fell = _latencies(seen, most)
    bands = predicted.bands(seen.end_s)
    return Comparison(
        start_ready=seen.start_ready,
        peak_ready=seen.peak_ready,
        final_ready=samples[-1].served.ready if samples else 0,
        served_by=seen.served_by,
        agreement_percent=round(100 * agreement(result.ready, ready), 1),
        parts_at_s=parts_at,
        parts_why="" if parts_at is None else _why(result, seen, parts_at),
        clock=seen.load.clock,
        predicted={name: band.value for name, band in bands.items()},
        bands=bands,
        measured=predicted.by.figures(
            answers,
            sent=len(seen.load.requests),
            seconds=seen.load.seconds,
            replica_seconds=pod_seconds(seen.known, serving=True),
            max_ready=seen.peak_ready,
        ),
        ttft_s={
            "predicted": [answer.ttft_s for answer in predicted.answers(result)],
            "measured": [answer.ttft_s for answer in answers],
        },
        requests={
            "sent": summary["requests"],
            **{outcome: summary[outcome] for outcome in ("ok", "failed", "cancelled")},
        },
        errors=summary["errors"],
        latency_fell=fell,
        alone_s=predicted.alone.latency_s,
        problems=tuple(_problems(predicted, seen, fell, min_scale, most)),
    )


def _latencies(seen: Timeline, most: int) -> tuple[float, float] | None:
    """Return the median latency while the first replicas alone, and while all were ready."""
    first = _when(seen.known, lambda s: s.at_s >= 0 and s.served.ready > seen.start_ready)
    all_ready = _when(seen.known, lambda s: s.at_s >= 0 and s.served.ready >= most)
    if first is None or all_ready is None:
        return None
    good = [request for request in seen.load.requests if request.outcome == "ok"]
    # A sample is up to a second late: what ended within it is left out.
    before = [r.latency_s for r in good if r.end_s <= first - 1]
    after = [r.latency_s for r in good if r.sent_s >= all_ready]
    return (median(before), median(after)) if before and after else None


def _problems(
    predicted: Prediction,
    seen: Timeline,
    fell: tuple[float, float] | None,
    min_scale: int,
    most: int,
) -> Iterable[str]:
    samples = [sample for sample in seen.known if sample.at_s >= 0]
    failed = [request.why for request in seen.load.requests if request.outcome != "ok"]
    if failed:
        yield f"{len(failed)} requests failed or were cancelled: {', '.join(sorted(set(failed)))}"
    if seen.peak_ready < most:
        yield f"only {seen.peak_ready} of {most} replicas became ready{_held_back(samples)}"
    else:
        yield from _who_answered(seen, most)
    if seen.start_ready < most <= seen.peak_ready:
        if fell is None:
            yield "no request was sent while all replicas were ready: the load was too short"
        # Without GPUs, replicas share the cores of their node: more of them answer no faster.
        elif predicted.by.gpus and fell[1] >= fell[0] > _UNFELT * predicted.alone.latency_s:
            yield f"latency did not fall: median {fell[0]:.3f} s before, {fell[1]:.3f} s after"
    if seen.cluster and seen.cluster[-1].error:
        yield f"what is left at the end is not known: {seen.cluster[-1].error}"
    elif not samples or samples[-1].served.ready != min_scale:
        left = samples[-1].served.ready if samples else "no"
        yield f"at the end {left} replicas were ready, not min_scale={min_scale}"


def _who_answered(seen: Timeline, most: int) -> Iterable[str]:
    """Yield a problem unless enough pods answered before the last request was sent."""
    last_sent = max((request.sent_s for request in seen.load.requests), default=0.0)
    serve = {sample.serving for sample in seen.known if sample.at_s >= 0}
    good = [r for r in seen.load.requests if r.outcome == "ok" and r.end_s <= last_sent]
    pods = {r.pod for r in good if r.pod and (not r.revision or r.revision in serve)}
    # Without the gateway's word, vLLM's own counters tell who answered, not when.
    known = pods or set(seen.served_by)
    if known and len(known) < most:
        yield f"only {len(known)} of {most} pods answered before the last request was sent"


def _held_back(samples: Sequence[ClusterSample]) -> str:
    """Say what a pod of the serving revision waited for: a GPU, and whose pod holds it."""
    waits = [(sample, pod.name) for sample in samples for pod in _waiting(sample)]
    if not waits:
        return ""
    sample, name = waits[-1]
    others = [pod for pod in sample.pods if pod.revision != sample.serving and pod.node]
    if not others:
        return f": {name} waited for a GPU; add a node, or lower max_scale"
    named = ", ".join(f"{pod.name} of revision {pod.revision}" for pod in others)
    return (
        f": {name} waited for a GPU, while another revision's pod holds one ({named}). It may be "
        f"draining: wait until it is gone, or kubectl delete pod {others[0].name}; if it comes "
        f"back, kubectl delete revision {others[0].revision}"
    )


def _waiting(sample: ClusterSample) -> list[PodSample]:
    pods = (pod for pod in sample.pods if pod.revision == sample.serving and not pod.node)
    return [pod for pod in pods if pod.reason == _UNSCHEDULABLE]


def _why(result: SimulationResult, seen: Timeline, second: int) -> str:
    """Say in words what the first difference comes from."""
    for start, end, why in seen.gaps:
        if start <= second <= end:
            return f"the cluster did not answer: {why}"
    samples = [sample for sample in seen.known if sample.at_s >= 0]
    found = min(samples, key=lambda sample: abs(sample.at_s - second)).served.ready
    number = min(result.ready[second], found) + 1  # the replica that one of them has
    due, gone_due = _span(enumerate(result.ready), number)
    came, gone = _span(((sample.at_s, sample.served.ready) for sample in samples), number)
    if due is not None and came is not None and second > max(due, came):
        return f"replicas fell to {number - 1} {_at(gone)} instead of {_at(gone_due)}"
    wanted, _ = _span(enumerate(result.desired), number)
    asked, _ = _span(((sample.at_s, sample.served.desired) for sample in samples), number)
    if asked is None or wanted is None or abs(asked - wanted) > SLACK_S:
        return f"desired replicas rose to {number} {_at(asked)} instead of {_at(wanted)}"
    reason = "it waited for a GPU" if any(map(_waiting, samples)) else f"asked for {_at(asked)}"
    return f"replica {number} was ready {_at(came)} instead of {_at(due)}: {reason}"


def _span(points: Iterable[tuple[float, int]], number: int) -> tuple[float | None, float | None]:
    """Return when a series first reached a number, and when it first fell below it again."""
    first = None
    for at_s, value in points:
        if first is None and value >= number:
            first = at_s
        elif first is not None and value < number:
            return first, at_s
    return first, None


def _at(second: float | None) -> str:
    return "never" if second is None else f"at {second:.0f} s"


def _when(samples: Sequence[ClusterSample], holds: Callable[[ClusterSample], bool]) -> float | None:
    return next((sample.at_s for sample in samples if holds(sample)), None)
