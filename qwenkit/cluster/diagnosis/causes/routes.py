"""Why Knative does not make a Service ready though its pods could: routes, domains, revisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from qwenkit.cluster.diagnosis.causes.crashes import last_words_say
from qwenkit.cluster.diagnosis.causes.rows import first_row, reason_and_message
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot
from qwenkit.cluster.gateway import class_in
from qwenkit.cluster.kinds import (
    CERTIFICATE,
    DOMAIN_MAPPING,
    INGRESS,
    POD_AUTOSCALER,
    ROUTE,
    Obj,
    annotations_of,
    condition,
    name_of,
)
from qwenkit.cluster.pods import is_current

# For so long, in seconds, it is no failure: it is made, issued or taken up.
_PATIENCE_S = {
    "ingress": 180,
    "gateway": 60,
    "certificate": 600,
    "knative-controller": 60,
    "digest": 60,
}
_BEHIND = (ROUTE, INGRESS, CERTIFICATE, DOMAIN_MAPPING, POD_AUTOSCALER)
_OF_PODS = ("RevisionFailed", "ContainerMissing", "ExitCode", "ProgressDeadline", "Unschedulable")


def not_routed(snapshot: Snapshot) -> Explanation | None:
    """Explain a route, an ingress, a domain or a certificate that is not ready."""
    for found, text in _not_true(snapshot):
        cause = first_row("condition", [text])
        late = snapshot.age_s(found.get("lastTransitionTime"))
        if cause and (late is None or late >= _PATIENCE_S.get(cause.kind, 0)):
            used = _ingress_class(snapshot) if cause.kind in ("ingress", "gateway") else ""
            named = f"{cause.cause} (ingress class {used})" if used else cause.cause
            return replace(cause, cause=named)
    return None


def _not_true(snapshot: Snapshot) -> Iterator[tuple[Obj, str]]:
    """Yield the conditions that are not True, those of the Service first."""
    behind = [obj for kind in _BEHIND for obj in snapshot.of(kind)]
    for obj in filter(None, [snapshot.service, snapshot.revision, *behind]):
        where = f"{obj['kind']} {name_of(obj)} " if obj in behind else ""
        for each in (obj.get("status") or {}).get("conditions") or []:
            text = f"{where}{reason_and_message(each)}"
            if each.get("status") == "True" or text.startswith(_OF_PODS):
                continue
            if not ("RevisionMissing" in text and _follows_next(snapshot, text)):
                yield each, text


def _follows_next(snapshot: Snapshot, text: str) -> bool:
    """Return whether a missing revision is not pinned, and the one that follows it starts."""
    made = condition(snapshot.revision or {}, "Ready")
    pinned = ((snapshot.service or {}).get("spec") or {}).get("traffic") or []
    starts = made.get("status") == "Unknown" or made.get("reason") == "Unschedulable"
    return starts and not any(f'"{one.get("revisionName")}"' in text for one in pinned)


def _ingress_class(snapshot: Snapshot) -> str:
    ingress = (snapshot.of(INGRESS) or [{}])[0]
    named = annotations_of(ingress).get("networking.knative.dev/ingress.class")
    return named or class_in(snapshot.config("network"))


def _of_last_words(texts: list[str]) -> Explanation | None:
    """Return what the last words of a container mean, which Knative keeps when its pod is gone."""
    said = (text.partition("Container failed with: ")[2] for text in texts)
    known = (last_words_say(words) for words in said if words)
    found = next(filter(None, known), None)
    return found and replace(found, cause=f"the container ended: {found.cause}")


def failed(snapshot: Snapshot) -> Explanation | None:
    """Explain a revision that Knative has given up, as far as its conditions tell it."""
    revision = condition(snapshot.revision or {}, "Ready")
    why = condition(snapshot.service or {}, "Ready").get("reason")
    recovered = revision.get("status") in ("Unknown", "True")
    if revision.get("reason") == "Unschedulable" or (
        recovered and why in ("RevisionFailed", "RevisionMissing")
    ):
        # The pods are scheduled, or a rule above would have applied: the condition is out of date.
        return None
    for obj in filter(None, (snapshot.revision, snapshot.service)):
        names = ("ResourcesAvailable", "ContainerHealthy", "Ready")
        late = [condition(obj, name) for name in names if is_current(obj)]
        texts = [reason_and_message(c) for c in late if c.get("status") == "False"]
        probes = snapshot.messages("Unhealthy")
        if probes and any("ProgressDeadlineExceeded" in text for text in texts):
            return Explanation(
                "never-ready",
                "the container runs, but its readiness probe never passed before the deadline",
                fix="does the server listen on the container's port? If it was still loading, "
                "raise progress_deadline",
            ).shown_by(texts[0], probes[0], *snapshot.last_lines(2))
        if texts:
            kind = "ksvc" if obj is snapshot.service else "revision"
            known = (
                _of_last_words(texts)
                or first_row("failed", texts)
                or Explanation(
                    "failed",
                    f"{kind} {name_of(obj)} failed: {texts[-1].partition(':')[0]}",
                    fix=f"kubectl describe {kind} {name_of(obj)}",
                )
            )
            return known.shown_by(*known.evidence, *texts)
    return None
