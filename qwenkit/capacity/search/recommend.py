"""The scaling settings that meet a service objective at the least cost, and why.

The load of a pod comes from the GPU's arithmetic (``suggested_load``). Hard limit, minimum,
windows and retention are found by simulation: every candidate runs the same traffic; the cheapest
that meets the objective wins. The decision is tried again on the slowest and the fastest server
that the model's error allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product

from qwenkit.autoscaling.annotation_keys import PROGRESS_DEADLINE
from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.capacity.band import Band
from qwenkit.capacity.search.candidates import (
    UTILIZATION,
    Candidate,
    Objective,
    ScalingChoice,
    judge,
    pareto,
)
from qwenkit.capacity.search.load import Load, suggested_load
from qwenkit.capacity.search.windows import PARTS, Replay, replay
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.traffic import Lengths, Traffic
from qwenkit.errors import InvalidValue

_TIMEOUT_S = 600  # Knative's own maximum unless the cluster raises it
_CONFIRMED = 2  # the best so many are compared on more windows
_DEADLINE_S = 1800  # covers the provisioning of a GPU node


@dataclass(frozen=True, slots=True)
class Reason:
    """One recommended setting, its value and why."""

    setting: str
    value: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The settings to use, why, and the alternatives. ``timeout_seconds`` is for both timeouts.

    ``front`` holds the candidates that no other beats in both cost and TTFT, cheapest first;
    ``next_best_costs`` is what the second best costs, in words. ``doubts`` say what
    would be decided otherwise inside the model's band; none if nothing.
    """

    annotations: Mapping[str, str]
    container_concurrency: int
    timeout_seconds: int
    reasons: tuple[Reason, ...]
    chosen: Candidate
    next_best_costs: str
    front: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    spec: ScalingSpec
    doubts: tuple[str, ...]


def recommend(
    server: VllmServer,
    *,
    traffic: Traffic,
    objective: Objective,
    environment: Environment | None = None,
    gpus: int = 1,
    duration_s: float | None = None,
) -> Recommendation:
    """Search the settings that meet the objective at the least cost.

    Of long traffic windows are replayed, for the best settings more of them. ``gpus`` is the
    number of pods that get a GPU, and replaces that of ``environment``. Each simulation takes
    ``duration_s``, by default a minute beyond the traffic.

    Raises:
        InvalidValue: an objective that no setting meets; the value is what the best candidate
            misses.
    """
    if gpus < 1:
        raise InvalidValue("gpus", gpus, "at least 1")
    around = replace(environment or Environment.of(server), gpus=gpus)
    load = suggested_load(server, traffic.lengths, objective=objective)
    part = replay(traffic, server, around.startup_s)

    def attempt(choice: ScalingChoice, part: Replay = part, on: VllmServer = server) -> Candidate:
        spec = parse_spec(choice.annotations(), container_concurrency=choice.hard_limit)
        return judge(choice, part.run(spec, on, around, duration_s=duration_s))

    tried = [attempt(choice) for choice in _coarse(load.total, gpus, fewer=part.is_much)]
    nearest = min(tried, key=lambda each: _rank(each, objective))
    tried += [attempt(choice) for choice in _refined(nearest.choice)]
    tried.sort(key=lambda each: _rank(each, objective))
    if part.basis:
        part = replay(traffic, server, around.startup_s, parts=PARTS)
        tried[:_CONFIRMED] = [attempt(each.choice, part) for each in tried[:_CONFIRMED]]
        tried[:_CONFIRMED] = sorted(tried[:_CONFIRMED], key=lambda each: _rank(each, objective))
    if misses := "; ".join(tried[0].misses(objective)):
        rule = f"no setting meets it on these GPUs; the nearest is {tried[0].choice}"
        fix = "allow more GPUs, a faster one, or a looser objective"
        raise InvalidValue("objective", misses, rule, fix)
    doubts, edges = list[str](), list[list[Candidate]]()
    for name, edge in zip(("slow", "fast"), server.edges(), strict=True):
        edges.append([attempt(each.choice, part, edge) for each in tried[:_CONFIRMED]])
        flips = _flips(edge, traffic.lengths, objective, load.total, edges[-1])
        doubts += (f"at the {name} edge of the band {flip}" for flip in flips)
    if doubts and server.gpu.error is None:
        doubts.append("measure with qwenkit calibrate before you rely on it")
    return _recommendation(tuple(tried), objective, load, around, edges, tuple(doubts))


def _flips(
    edge: VllmServer,
    lengths: Lengths,
    objective: Objective,
    total: int,
    tried: Sequence[Candidate],
) -> Iterator[str]:
    """Say what would be decided otherwise at an edge; the chosen and the next are ``tried``."""
    chosen, following = tried[0], tried[-1]
    with suppress(InvalidValue):  # the objective cannot be met: it is missed below
        if total != (there := suggested_load(edge, lengths, objective=objective).total):
            yield f"a pod should carry {there} instead of {total}"
    if chosen.misses(objective):
        yield "these settings miss the objective"
    if _rank(following, objective)[:2] < _rank(chosen, objective)[:2]:
        yield f"better is {following.choice}"


def _rank(candidate: Candidate, objective: Objective) -> tuple[float, ...]:
    return candidate.excess(objective), candidate.cost_per_hour, candidate.ttft_p95_s


def _coarse(total: int, gpus: int, *, fewer: bool) -> Iterator[ScalingChoice]:
    """Vary the settings that matter most: target, hard limit, minimum."""
    targets = sorted({total, max(1, total // 2), max(1, total // 4)}, reverse=True)
    minima = sorted({0, 1, max(1, gpus // 2)})
    kept = 2 if fewer else None
    for target, minimum, limit in product(targets[:kept], minima[:kept], (0, total)):
        yield ScalingChoice(target, limit, minimum, gpus)


def _refined(choice: ScalingChoice) -> Iterator[ScalingChoice]:
    """Vary windows and retention around the best of the coarse search."""
    yield replace(choice, window_s=120)
    if choice.min_scale == 0:
        yield replace(choice, retention_s=300)
        yield replace(choice, retention_s=900)
        yield replace(choice, window_s=120, retention_s=900)


def _recommendation(
    tried: tuple[Candidate, ...],
    objective: Objective,
    load: Load,
    environment: Environment,
    edges: Sequence[Sequence[Candidate]],
    doubts: tuple[str, ...],
) -> Recommendation:
    chosen = tried[0]
    cold = environment.startup_s
    deadline = max(_DEADLINE_S, math.ceil(3 * cold / 60) * 60)
    annotations = {**chosen.choice.annotations(), PROGRESS_DEADLINE: f"{deadline}s"}
    return Recommendation(
        annotations=annotations,
        container_concurrency=chosen.choice.hard_limit,
        timeout_seconds=_TIMEOUT_S,
        reasons=tuple(_reasons(chosen.choice, load, cold, deadline)),
        chosen=chosen,
        next_best_costs=_next_best([of[1] for of in (tried, *edges) if of[1:]], objective),
        front=pareto(tried),
        candidates=tried,
        spec=parse_spec(annotations, container_concurrency=chosen.choice.hard_limit),
        doubts=doubts,
    )


def _next_best(tried: Sequence[Candidate], objective: Objective) -> str:
    """Describe the next best by its figures: as it is, slow and fast."""
    if not tried or tried[0].misses(objective):
        return "no other settings meet the objective"
    cost = Band.over(*(each.cost_per_hour for each in tried)).text()
    ttft = Band.over(*(each.ttft_p95_s for each in tried)).text("s")
    return f"{tried[0].choice}: {cost} per hour, TTFT p95 {ttft}"


def _reasons(choice: ScalingChoice, load: Load, cold: float, deadline: int) -> Iterator[Reason]:
    yield Reason("metric", "concurrency", "a backlog raises concurrency, but not rps")
    yield Reason(
        "target",
        str(choice.target),
        f"with {load.total} a pod answers {load.per_s.text('requests/s')}, nearly its most; "
        f"more is limited by the {load.bound}. At {UTILIZATION} % the KPA aims at "
        f"{choice.target * UTILIZATION / 100:g}",
    )
    room = "the rest is room for requests between two decisions"
    yield Reason("target-utilization-percentage", str(UTILIZATION), room)
    limit = (
        "keeps the batch small, other requests wait"
        if choice.hard_limit
        else "vLLM has its own queue"
    )
    yield Reason("containerConcurrency", str(choice.hard_limit), limit)
    floor = "no idle GPU is paid for" if choice.min_scale == 0 else "no request waits for a start"
    yield Reason("min-scale", str(choice.min_scale), f"{floor}, and the objective is met")
    yield Reason("max-scale", str(choice.max_scale), "the number of GPUs; a backlog asks for more")
    yield Reason("window", f"{choice.window_s}s", "the cheapest that meets the objective")
    yield Reason(
        "panic-threshold-percentage",
        str(choice.panic_threshold),
        f"one pod panics above {math.ceil(choice.panic_threshold / 100) - 1} × the target",
    )
    yield Reason(
        "target-burst-capacity", "0", "no extra hop once a pod is ready, and idle pods are scraped"
    )
    yield Reason(
        "scale-to-zero-pod-retention-period",
        f"{choice.retention_s}s",
        f"the cheapest choice for a cold start of {cold:.3g} s",
    )
    yield Reason(
        "progress-deadline", f"{deadline}s", "three cold starts, and time to provision a GPU node"
    )
    yield Reason(
        "timeoutSeconds, responseStartTimeoutSeconds",
        f"{_TIMEOUT_S}",
        "both: with the first alone, a cold start is cut at 300 s",
    )
