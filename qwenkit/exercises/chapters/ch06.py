"""Chapter 06: load, and watch it scale."""

from __future__ import annotations

from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.cluster import kinds
from qwenkit.cluster.pods import is_serving, unschedulable
from qwenkit.exercises.exercise import TODO, Verdict, exercise, judged
from qwenkit.exercises.facts import Facts


@exercise("06.3")
def two_by_load(facts: Facts) -> Verdict:
    """Two pods of one revision are ready, and only load asks for them."""
    s = facts.settings
    service = facts.find(kinds.KSVC, s.service)
    pods = facts.list(kinds.POD, {kinds.SERVICE_LABEL: s.service})
    pods = [pod for pod in pods if not kinds.is_terminating(pod)]
    if service is None or len(pods) < 2:
        return TODO
    spec = parse_spec(kinds.annotations_of(service["spec"]["template"]), strict=False)
    checks = {
        "two-revisions": len({kinds.labels_of(pod).get(kinds.REVISION_LABEL) for pod in pods}) > 1,
        "floor": spec.min_scale > 1 or spec.initial_scale > 1,
        "capped": spec.max_scale == 2 != s.max_scale,
        "target": (spec.metric, spec.total) != (s.scale_metric, s.scale_target),
        "too-many": len(pods) > 2,
        "no-gpu": any(unschedulable(pod) for pod in pods),
        "starting": not all(is_serving(pod) for pod in pods),
    }
    return judged(checks, found=len(pods))
