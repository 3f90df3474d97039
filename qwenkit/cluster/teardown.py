"""Remove one run's objects in the order of their dependencies; audit that nothing is left.

Only objects with this run's labels are touched. A step whose work is already done
succeeds, so a teardown can follow any half-finished run, or another teardown. A step that fails
does not end it: what can be removed is removed, and the audit says what is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from qwenkit.cluster.api_errors import may_not_look
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    CHILD_KINDS,
    JOB,
    KSVC,
    POD,
    PV,
    PVC,
    RUN_KINDS,
    SECRET,
    SERVICE_LABEL,
    Kind,
    Obj,
    name_of,
)
from qwenkit.cluster.occupants import expired_objects, unclear_objects
from qwenkit.cluster.ownership import holds_weights
from qwenkit.cluster.removal import PATIENT, Manner, Removal, TeardownStep, may_have_children, ours
from qwenkit.errors import Forbidden, QwenkitError
from qwenkit.language import Shown
from qwenkit.settings import EXPIRES_AT, Settings

OnStep = Callable[[TeardownStep], None]


class StoredWeights(Protocol):
    """What teardown needs of the bucket; each call concerns this run's prefix only."""

    @property
    def scope(self) -> str:
        """What is deleted, in words."""

    def abort_uploads(self) -> int:
        """Abort unfinished multipart uploads that this project began; return how many."""

    def delete_objects(self) -> int:
        """Delete the objects that this project wrote; return how many."""

    def left(self, *, delete_weights: bool) -> tuple[list[str], list[str]]:
        """Name what is left, and what is not this project's or may not be read."""


@dataclass(frozen=True, repr=False)
class TeardownReport(Shown):
    """The steps in order, and the seconds that all took."""

    steps: tuple[TeardownStep, ...]
    seconds: float

    def __str__(self) -> str:
        return "\n".join([*map(str, self.steps), f"done in {self.seconds:.1f} s"])


@dataclass(frozen=True, repr=False)
class Leaks(Shown):
    """What is left of a run, ideally nothing.

    ``unknown`` names what may not be listed, and what is beside it and not this project's.
    """

    found: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"left: {what}" for what in self.found] or [
            "nothing was found" if self.unknown else "nothing is left"
        ]
        unsure = (f"not ours, or not allowed to read: {what}" for what in self.unknown)
        return "\n".join([*lines, *unsure])


@dataclass(frozen=True)
class Ended:
    """A teardown that has ended, well or not: its steps, the audit, and the error if one came."""

    removed: TeardownReport
    leaks: Leaks
    error: Exception | KeyboardInterrupt | None = None


def teardown(
    cluster: Cluster,
    settings: Settings,
    *,
    weights: StoredWeights | None = None,
    on_step: Callable[[TeardownStep], None] | None = None,
    manner: Manner = PATIENT,
    chosen: Callable[[Obj], bool] = lambda _obj: True,
) -> TeardownReport:
    """Remove this run's objects: Services, Jobs, their pods, PVC, PV, Secret, uploads.

    Without ``weights`` the bucket is not touched; the weights themselves are deleted only with
    ``settings.delete_weights``. ``chosen`` limits it to some of the objects. ``on_step`` is called
    after each step. If a step fails, the others are taken before its error is raised.

    Raises:
        WaitTimeout: an object is not removed in time; why names what blocks it.
        QwenkitError: the first error of a step; its evidence names the others.
    """
    start = time.monotonic()
    removal = Removal(
        cluster, settings.seconds("teardown"), manner, on_step or (lambda _step: None), chosen
    )
    removal.attempt(f"{KSVC}", partial(_remove_services, removal, settings.service))
    known = {PVC: settings.volume, PV: settings.volume, SECRET: settings.secret}
    # A Job's pods have our labels themselves, and may be writing to the bucket.
    for kind in (JOB, POD, PVC, PV, SECRET):
        removal.attempt(f"{kind}", partial(removal.remove_all, kind, known.get(kind, "")))
    if weights is not None:
        removal.attempt("unfinished uploads", partial(_abort_uploads, removal, weights))
        removal.attempt("weights", partial(_weights, removal, weights, settings))
    removal.look_again()
    removal.fail()
    return TeardownReport(tuple(removal.steps), round(time.monotonic() - start, 3))


def _remove_services(removal: Removal, known: str) -> None:
    if not removal.cluster.serves(KSVC):
        removal.add(f"{KSVC}", False, "none: Knative Serving is not installed")
        return
    names: list[str] = []
    removal.attempt(f"{KSVC}", lambda: names.extend(removal.names(KSVC, known)))
    for name in names or [known]:
        removal.attempt(f"{KSVC} {name}", partial(removal.remove, KSVC, name))
        removal.attempt(f"pods of ksvc {name}", partial(removal.wait_for_children, name))


def _abort_uploads(removal: Removal, weights: StoredWeights) -> None:
    aborted = weights.abort_uploads()
    removal.add("unfinished uploads", aborted > 0, f"aborted: {aborted}")


def _weights(removal: Removal, weights: StoredWeights, settings: Settings) -> None:
    if settings.delete_weights:
        gone = weights.delete_objects()
        removal.add("weights", gone > 0, f"deleted: {gone} {weights.scope}")
    else:
        removal.add("weights", False, "kept: delete_weights is false")


def audit(cluster: Cluster, settings: Settings, *, weights: StoredWeights | None = None) -> Leaks:
    """List what this run left; complete weights only if ``delete_weights`` is set."""
    found, unknown = left_of(RUN_KINDS, lambda kind: _to_go(ours(cluster, kind)))
    try:
        children, hidden = _children(cluster, settings.service)
        found, unknown = found + children, unknown + hidden
    except QwenkitError as error:
        unknown.append(f"ksvc: {error.what}")
    if weights is not None:
        try:
            left, unsure = weights.left(delete_weights=settings.delete_weights)
        except QwenkitError as error:
            left, unsure = [], [": ".join(filter(None, ("bucket", error.what, error.why)))]
        found, unknown = found + left, unknown + unsure
    return Leaks(tuple(found), tuple(unknown))


def remove_and_audit(
    connect: Callable[[], Cluster],
    settings: Settings,
    *,
    open_weights: Callable[[], StoredWeights | None],
    first: Callable[[Callable[[TeardownStep], None]], QwenkitError | None] = lambda _keep: None,
    on_step: Callable[[TeardownStep], None] | None = None,
    manner: Manner = PATIENT,
) -> Ended:
    """Tear down and then audit, also after an error or an interrupt, which are in the answer.

    ``first`` is called before: it removes something else, reports its steps, and returns an error.

    Raises:
        QwenkitError: the cluster cannot be connected to; nothing was done.
    """
    cluster = connect()
    error: QwenkitError | None = None
    weights: StoredWeights | None = None
    try:
        weights = open_weights()
    except QwenkitError as closed:  # the cluster's objects can be removed without it
        closed.what = f"the bucket was left as it is: {closed.what}"
        error = closed

    def remove(keep: OnStep) -> QwenkitError | None:
        problem = first(keep)
        teardown(cluster, settings, weights=weights, on_step=keep, manner=manner)
        return error or problem

    return ended(remove, lambda: audit(cluster, settings, weights=weights), on_step)


def ended(
    remove: Callable[[OnStep], QwenkitError | None],
    look: Callable[[], Leaks],
    on_step: OnStep | None = None,
) -> Ended:
    """Remove and then audit, also after an error or an interrupt, which are in the answer."""
    began = time.monotonic()
    steps: list[TeardownStep] = []
    error: Exception | KeyboardInterrupt | None

    def keep(step: TeardownStep) -> None:
        steps.append(step)
        if on_step is not None:
            on_step(step)

    try:
        error = remove(keep)
    except (Exception, KeyboardInterrupt) as failed:
        error = failed
    report = TeardownReport(tuple(steps), round(time.monotonic() - began, 3))
    return Ended(report, look(), error)


def merged(endings: Sequence[Ended]) -> Ended:
    """Return several removals as one; the first error counts."""
    steps = tuple(step for one in endings for step in one.removed.steps)
    report = TeardownReport(steps, round(sum(one.removed.seconds for one in endings), 3))
    found = tuple(dict.fromkeys(what for one in endings for what in one.leaks.found))
    unknown = tuple(dict.fromkeys(what for one in endings for what in one.leaks.unknown))
    errors = (one.error for one in endings if one.error)
    return Ended(report, Leaks(found, unknown), next(errors, None))


def audit_expired(cluster: Cluster) -> Leaks:
    """List what has expired and is still there, and what may or may not have expired."""
    found, unknown = left_of(RUN_KINDS, lambda kind: _to_go(expired_objects(cluster, kind)))
    unclear, _ = left_of(RUN_KINDS, lambda kind: unclear_objects(cluster, kind))
    unknown += [f"{what}: {EXPIRES_AT} is not a time with an offset from UTC" for what in unclear]
    return Leaks(tuple(found), tuple(unknown))


def _to_go(objects: Iterable[Obj]) -> list[Obj]:
    """Leave out what teardown keeps; whether it should have gone too, its weights know."""
    return [obj for obj in objects if not holds_weights(obj)]


def left_of(
    kinds: Iterable[Kind], read: Callable[[Kind], list[Obj]]
) -> tuple[list[str], list[str]]:
    """Name the objects of each kind, and the kinds that may not be listed."""
    found: list[str] = []
    unknown: list[str] = []
    for kind in kinds:
        try:
            found += [f"{kind}/{name_of(obj)}" for obj in read(kind)]
        except QwenkitError as error:
            why = may_not_look(error) if isinstance(error, Forbidden) else error.why
            unknown.append(f"{kind}: {why}")
    return found, unknown


def _children(cluster: Cluster, service: str) -> tuple[list[str], list[str]]:
    """Name the objects that Knative labels as our Service's, and the kinds not allowed."""
    if not may_have_children(cluster, service):
        return [], []
    labels = {SERVICE_LABEL: service}
    return left_of(CHILD_KINDS, lambda kind: cluster.list(kind, labels=labels))
