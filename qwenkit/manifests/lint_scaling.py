"""Check a Knative Service's scaling settings and where they are set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from qwenkit.autoscaling.annotation_keys import PREFIX, PROGRESS_DEADLINE, SERVING
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.capacity.advice import ScalingContext, advise, advise_annotations
from qwenkit.capacity.finding import Finding
from qwenkit.errors import InvalidValue
from qwenkit.manifests.documents import Doc, place, table

_TEMPLATE = "spec.template.metadata"


def findings(doc: Doc) -> Iterator[Finding]:
    """Examine one Knative Service."""
    raw = table(doc, "spec", "template", "metadata", "annotations")
    annotations = {str(key): str(value) for key, value in raw.items()}
    for finding in _rulebook(table(doc, "spec", "template", "spec"), annotations):
        group = f"{_TEMPLATE}.annotations" if "/" in finding.where else "spec.template.spec"
        yield replace(finding, where=place(doc, f"{group}.{finding.where}"))
    yield from _misplaced(doc, annotations)


def _rulebook(revision: Doc, annotations: dict[str, str]) -> list[Finding]:
    limit = revision.get("containerConcurrency")
    context = ScalingContext(
        timeout_s=_seconds(revision.get("timeoutSeconds")) or 300,
        response_start_timeout_s=_seconds(revision.get("responseStartTimeoutSeconds")),
        idle_timeout_s=_seconds(revision.get("idleTimeoutSeconds")),
    )
    try:
        spec = parse_spec(
            annotations,
            container_concurrency=limit if isinstance(limit, int) else 0,
            strict=False,  # contradictions are the webhook's to refuse
        )
    except InvalidValue as error:  # the webhook refuses it, or it is a number that is not finite
        others = {key: text for key, text in annotations.items() if key != error.name}
        rest = _rulebook(revision, others) if others != annotations else []
        return list(dict.fromkeys([*advise_annotations(annotations), *rest]))
    return advise(spec, annotations=annotations, context=context)


def _seconds(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _misplaced(doc: Doc, annotations: dict[str, str]) -> Iterator[Finding]:
    for path in (("metadata", "labels"), ("spec", "template", "metadata", "labels")):
        for key in table(doc, *path):
            if str(key).startswith(PREFIX):
                where = place(doc, ".".join(path))
                message = f"{key} is a label here; the autoscaler reads annotations"
                fix = f"move it to {_TEMPLATE}.annotations"
                yield Finding("warning", "annotation-as-label", where, message, fix)
    for key in (f"{SERVING}/rollout-duration", f"{SERVING}/rolloutDuration"):
        if key in annotations:
            where = place(doc, f"{_TEMPLATE}.annotations.{key}")
            message = f"{key} on the template does nothing"
            fix = "move it to the Service's own metadata.annotations"
            yield Finding("warning", "annotation-misplaced", where, message, fix)
    if PROGRESS_DEADLINE in table(doc, "metadata", "annotations"):
        message = f"{PROGRESS_DEADLINE} on the Service does nothing"
        where = place(doc, "metadata.annotations")
        fix = f"move it to {_TEMPLATE}.annotations"
        yield Finding("warning", "annotation-misplaced", where, message, fix)
