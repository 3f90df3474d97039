"""Bring the target to the start of a chapter: what is too much goes, what is missing comes.

00, 01   no object of ours in the namespace
02       and the weights in the bucket
03       and Secret, volume and claim
04 …     and the Service as the settings describe it, with one revision
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qwenkit.cluster import teardown as removal
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    KSVC,
    REVISION,
    SERVICE_LABEL,
    Obj,
    kind_of,
    labels_of,
    name_of,
)
from qwenkit.cluster.removal import Manner, TeardownStep
from qwenkit.exercises.exercise import chapters, of_chapter
from qwenkit.exercises.learner import Learner
from qwenkit.in_cluster.weights import Weights
from qwenkit.settings import Settings
from qwenkit.steps import apply, propose, render, resolve

_ROUTE = {"latestRevision": True, "percent": 100}


@dataclass(frozen=True)
class ResetReport:
    """What was removed and made, so that a chapter can begin."""

    chapter: str
    steps: tuple[TeardownStep, ...]

    def __str__(self) -> str:
        gone = ", ".join(step.name for step in self.steps if step.removed)
        return f"chapter {self.chapter} can begin; removed: {gone or 'nothing'}"


def reset(
    settings: Settings,
    chapter: str,
    *,
    on_step: Callable[[TeardownStep], None] | None = None,
) -> ResetReport:
    """Bring the target to the start of a chapter and forget what was answered from there on.

    Only objects of this run are touched; their pods get a second to end. Weights stay unless
    ``delete_weights`` is set. A server that has to start is not waited for. Safe to repeat.

    Raises:
        InvalidValue: there is no such chapter.
        QwenkitError: an object cannot be removed or made.
    """
    of_chapter(chapter)
    settings = resolve(settings)
    cluster = Cluster.connect(settings)
    steps: list[TeardownStep] = []

    def tell(step: TeardownStep) -> None:
        steps.append(step)
        if on_step is not None:
            on_step(step)

    has_bucket = settings.bucket != "" or settings.storage != "oss"
    documents = list(render(settings)) if chapter >= "03" else []  # the last is the Service
    standing = documents if chapter >= "04" else documents[:-1]
    untouched = chapter >= "04" and _is_untouched(cluster, settings, documents[-1])
    stays = {(kind_of(one), name_of(one)) for one in (standing if untouched else documents[:-1])}
    removal.teardown(
        cluster,
        settings,
        weights=Weights.of(settings) if chapter < "02" and has_bucket else None,
        on_step=lambda step: tell(step) if step.removed else None,
        manner=Manner(now=True),
        chosen=lambda obj: (kind_of(obj), name_of(obj)) not in stays,
    )
    if chapter >= "02":
        sent = Weights.of(settings).upload()
        tell(TeardownStep("weights", False, str(sent).splitlines()[0]))
    missing = documents[:-1] if untouched else standing
    for made in apply(settings, missing) if missing else ():
        tell(TeardownStep(f"{made.kind} {made.name}", False, "as the settings describe it"))
    if chapter >= "04" and not untouched:
        tell(TeardownStep(f"ksvc {settings.service}", False, "starting; qwenkit deploy waits"))
    Learner(settings).forget(*(one for one in chapters() if one >= chapter))
    return ResetReport(chapter, tuple(steps))


def _is_untouched(cluster: Cluster, settings: Settings, document: Obj) -> bool:
    """Return whether the Service is as its first ``deploy`` made it; labels put on it go."""
    found = cluster.find(KSVC, settings.service)
    if found is None or len(cluster.list(REVISION, labels={SERVICE_LABEL: settings.service})) != 1:
        return False
    change = propose(settings)
    routes = found["spec"].get("traffic") or [_ROUTE]
    untouched = routes == [_ROUTE] and change is not None and not change.diff
    if untouched and (more := labels_of(found).keys() - labels_of(document).keys()):
        cluster.patch(KSVC, settings.service, {"metadata": {"labels": dict.fromkeys(more)}})
    return untouched
