"""Chapter 05: what the autoscaler counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.cluster.kinds import (
    KSVC,
    REVISION,
    SERVICE_LABEL,
    Obj,
    annotations_of,
    is_true,
    name_of,
)
from qwenkit.exercises.exercise import PASSED, TODO, Verdict, exercise, judged, wrong
from qwenkit.exercises.facts import Facts

_IN_FLIGHT = 5
# What else could be meant to keep a replica awake, and the field of the spec that shows it.
_NOT_THE_FLOOR = {"retention": "retention_s", "initial": "initial_scale", "target": "total"}
_NOT_THE_FLOOR |= {"window": "stable_window_s", "delay": "scale_down_delay_s"}
_NOT_THE_FLOOR |= {"activation": "activation_scale", "max-scale": "max_scale"}


@exercise("05.3")
def two_for_five(facts: Facts) -> Verdict:
    """Five in flight ask for two replicas."""
    return _tried(facts, _two_for_five)


def _two_for_five(spec: ScalingSpec, _: ScalingSpec) -> Verdict:
    asked = math.ceil(_IN_FLIGHT / spec.target)
    checks = {
        "rps": spec.metric == "rps",
        "too-high": asked < 2,
        "capped": asked > 2 == spec.max_scale,
        "floor": asked > 2 == spec.min_scale,
        "hard-limit": asked > 2 and spec.container_concurrency,
        "no-headroom": asked > 2 >= _IN_FLIGHT / spec.total,
        "too-low": asked > 2,
    }
    return judged(checks, target=f"{spec.total:g}", asked=asked)


@exercise("05.4")
def one_stays_awake(facts: Facts) -> Verdict:
    """At least one replica, and no more."""
    return _tried(facts, _one_stays_awake)


def _one_stays_awake(spec: ScalingSpec, before: ScalingSpec) -> Verdict:
    if spec.min_scale:
        return PASSED if spec.min_scale == 1 else wrong("too-many", found=spec.min_scale)
    changed = {n: getattr(spec, f) != getattr(before, f) for n, f in _NOT_THE_FLOOR.items()}
    return judged({**changed, "other": True})


def _tried(facts: Facts, judge: Callable[[ScalingSpec, ScalingSpec], Verdict]) -> Verdict:
    """Pass if a revision that was ready is right, and the Service is back as it was.

    That is as the settings say, or as its first revision was: nobody has tried that one.
    """
    from qwenkit.manifests.scaling import scaling_spec  # a page's own Python has no settings

    service = facts.find(KSVC, facts.settings.service)
    revisions = facts.list(REVISION, {SERVICE_LABEL: facts.settings.service})
    if service is None or not revisions:
        return TODO
    ready = [_spec(revision) for revision in revisions if is_true(revision, "Ready")]
    now, first = (_spec(one) for one in (service["spec"]["template"], min(revisions, key=name_of)))
    is_done = any(judge(spec, first) == PASSED for spec in ready if spec != first)
    if now in (first, replace(scaling_spec(facts.settings), progress_deadline_s=0)):
        return PASSED if is_done else TODO
    verdict = wrong("not-back") if is_done else judge(now, first)
    return wrong("not-ready") if verdict == PASSED else verdict


def _spec(template: Obj) -> ScalingSpec:
    limit = int(template["spec"].get("containerConcurrency") or 0)
    spec = parse_spec(annotations_of(template), container_concurrency=limit, strict=False)
    return replace(spec, progress_deadline_s=0)  # says nothing about replicas
