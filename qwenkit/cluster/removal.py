"""Remove objects one by one, and say what each removal waits for.

A step that fails is kept in ``problems``, and the next one follows: what does not depend on a pod
that stays is removed before it. Finalizers are explained, never removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from qwenkit.cluster.api_errors import may_not_look
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.ending import ending, grace_of, ignores_sigterm, seconds_left
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.kinds import (
    CHILD_KINDS,
    KSVC,
    POD,
    PV,
    PVC,
    SERVICE_LABEL,
    Kind,
    Obj,
    is_terminating,
    kind_of,
    labels_of,
    name_of,
)
from qwenkit.cluster.ownership import foreign_claim, holds_weights, is_ours
from qwenkit.cluster.pods import claim_names
from qwenkit.cluster.wait import OnChange, Transition, wait
from qwenkit.errors import Forbidden, QwenkitError, WaitTimeout
from qwenkit.language import Shown

SHORT_GRACE_S = 1
"""The shortest grace that is not a force: a pod's object stays until its containers ended."""
_SERVICE_UID = "serving.knative.dev/serviceUID"
_LEAST_S = 5.0  # for each later step, when the pods took most of the time
_SHORTEN = "qwenkit teardown --now gives such pods one more second"


@dataclass(frozen=True, repr=False)
class TeardownStep(Shown):
    """One step: its object, whether it was removed, and the outcome in words."""

    name: str
    removed: bool
    outcome: str

    def __str__(self) -> str:
        return f"{self.name}: {self.outcome}"


@dataclass(frozen=True)
class Manner:
    """How a removal goes on.

    ``on_change`` is called when what it waits for changes. With ``now``, terminating pods get a
    grace period of a second; else ``ask`` may allow that, once, when a container ignores SIGTERM.
    """

    on_change: OnChange = lambda _change: None
    now: bool = False
    ask: Callable[[str], bool] | None = None


PATIENT = Manner()


@dataclass
class Removal:
    """A removal while it runs: each method adds its steps. ``chosen`` limits it to some objects.

    Claims that hold weights are removed only with ``weights``.
    """

    cluster: Cluster
    timeout_s: float
    manner: Manner
    on_step: Callable[[TeardownStep], None]
    chosen: Callable[[Obj], bool] = lambda _obj: True
    weights: bool = False
    steps: list[TeardownStep] = field(default_factory=list)
    problems: list[QwenkitError] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _late: list[tuple[str, Callable[[], list[Obj]], QwenkitError]] = field(default_factory=list)
    _services: set[str] = field(default_factory=set)
    _shortened: set[str] = field(default_factory=set)

    def add(self, name: str, removed: bool, outcome: str) -> None:
        """Add a step that is done."""
        self.steps.append(TeardownStep(name, removed, outcome))
        self.on_step(self.steps[-1])

    def attempt(self, name: str, step: Callable[[], None]) -> None:
        """Take a step; if it fails, note it and go on."""
        try:
            step()
        except QwenkitError as error:
            self.problems.append(error)
            self.add(name, False, f"failed: {error.what}")

    def remove_all(self, kind: Kind, known: str = "") -> None:
        """Remove our objects of a kind; the ``known`` one if they may not be listed."""
        for name in self.names(kind, known):
            self.attempt(f"{kind} {name}", partial(self.remove, kind, name))

    def names(self, kind: Kind, known: str) -> list[str]:
        """Name our objects of a kind; the ``known`` one if they may not be listed."""
        try:
            return list(map(name_of, ours(self.cluster, kind)))
        except Forbidden as error:
            self.add(f"{kind}", False, may_not_look(error))
        with suppress(Forbidden):
            found = self.cluster.find(kind, known) if known else None
            if found and not foreign_claim(found, self.cluster.namespace):
                return [known]
        return []

    def remove(self, kind: Kind, name: str) -> None:
        """Delete an object if it is ours, and wait until it is gone."""
        existing = self.cluster.find(kind, name)
        if existing is None or not is_ours(existing, run=self.cluster.run):
            outcome = "none" if existing is None else "not ours, not touched"
            self.add(f"{kind} {name}", False, outcome)
            return
        if not self.chosen(existing):
            return
        if holds_weights(existing) and not self.weights:
            self.add(f"{kind} {name}", False, "kept: it holds the weights")
            return
        self.cluster.delete(kind, name)
        if kind == KSVC:
            self._services.add(str(existing["metadata"].get("uid")))
        seconds = self._gone(lambda: self._left_of(kind, existing), f"{kind} {name}")
        self.add(f"{kind} {name}", True, f"deleted in {seconds:.1f} s")

    def wait_for_children(self, service: str) -> None:
        """Wait for the pods, which hold GPU and volume, and for the garbage collector."""
        found = self.cluster.find(KSVC, service)
        if found is not None and not self.chosen(found):
            return
        if may_have_children(self.cluster, service):
            left = lambda: children(self.cluster, service)  # noqa: E731
            seconds = self._gone(left, f"children of ksvc {service}")
            self.add(f"pods of ksvc {service}", False, f"gone after {seconds:.1f} s")

    def look_again(self) -> None:
        """Take back the failure of each object that went after its wait had ended."""
        for what, left, error in self._late:
            if not left():
                self.problems.remove(error)
                self.add(what, True, "gone after all")

    def fail(self) -> None:
        """Raise the first failure, if there was one; its evidence names the others."""
        if self.problems:
            first, *others = self.problems
            evidence = (*first.context.get("evidence", ()), *(error.what for error in others))
            first.context["evidence"] = evidence
            raise first

    def _left_of(self, kind: Kind, obj: Obj) -> list[Obj]:
        """Return what is left of a deleted object: itself, and the pods that keep a PVC."""
        found = self.cluster.find(kind, name_of(obj))
        if found is None or found["metadata"].get("uid") != obj["metadata"].get("uid"):
            return []
        return [found, *(_users(self.cluster, name_of(obj)) if kind == PVC else [])]

    def _gone(self, left: Callable[[], list[Obj]], what: str) -> float:
        """Wait until nothing is left; shorten the grace of pods where that is wanted."""
        began = time.monotonic()

        def on_change(change: Transition) -> None:
            if change.state:
                at_s = time.monotonic() - began
                self.manner.on_change(replace(change, at_s=at_s))

        while True:
            try:
                found = wait(
                    left,
                    what=f"{what} gone",
                    ready=lambda objects: not objects or bool(self._to_shorten(objects)),
                    describe=lambda objects: _waits_for(objects, time.monotonic() - began),
                    late=lambda objects: _blocked(self.cluster, objects),
                    timeout_s=self._seconds(),
                    every_s=0.5,
                    on_change=on_change,
                ).value
            except WaitTimeout as error:
                self._late.append((what, left, error))
                raise
            if not found:
                return time.monotonic() - began
            self._shorten(self._to_shorten(found))

    def _seconds(self) -> float:
        """Return how long the next wait may take: hardly any time once a wait has failed."""
        late = any(isinstance(error, WaitTimeout) for error in self.problems)
        left = 0.0 if late else self.timeout_s - (time.monotonic() - self._began)
        return max(left, min(self.timeout_s, 1.0 if late else _LEAST_S))

    def _to_shorten(self, objects: Iterable[Obj]) -> list[Obj]:
        """Return the pods of ours whose grace is to be shortened, or asked about."""
        if not self.manner.now and self.manner.ask is None:
            return []
        pods = [
            pod
            for pod in objects
            if kind_of(pod) == POD and is_terminating(pod) and grace_of(pod) > SHORT_GRACE_S
            if pod["metadata"].get("uid") not in self._shortened
        ]
        if not self.manner.now:
            pods = [pod for pod in pods if ignores_sigterm(pod, _now())]
        return [pod for pod in pods if self._is_ours(pod)]

    def _is_ours(self, pod: Obj) -> bool:
        """Return whether a pod is ours by its labels, its deleted Service or its claim."""
        if is_ours(pod, run=self.cluster.run) or labels_of(pod).get(_SERVICE_UID) in self._services:
            return True
        claims = [
            claim for name in claim_names(pod["spec"]) if (claim := self.cluster.find(PVC, name))
        ]
        return any(is_ours(claim, run=self.cluster.run) for claim in claims)

    def _shorten(self, pods: Iterable[Obj]) -> None:
        for pod in pods:
            if not self.manner.now:
                assert self.manner.ask is not None
                yes = self.manner.ask(ending(pod, _now()))
                self.manner = replace(self.manner, now=yes, ask=None)
                if not yes:
                    return
            self._shortened.add(str(pod["metadata"].get("uid")))
            name = f"pod {name_of(pod)}"
            try:
                self.cluster.shorten_grace(pod, SHORT_GRACE_S)
            except QwenkitError as error:
                self.add(name, False, f"its grace period was not shortened: {error.why}")
            else:
                self.add(name, False, f"grace period shortened to {SHORT_GRACE_S} s")


def ours(cluster: Cluster, kind: Kind) -> list[Obj]:
    """Return this run's objects of a kind, but no PV of the same run in another namespace."""
    found = cluster.list(kind, labels=cluster.labels)
    return [obj for obj in found if not foreign_claim(obj, cluster.namespace)]


def children(cluster: Cluster, service: str) -> list[Obj]:
    """Return the objects that Knative labels as a Service's, of the kinds that may be listed."""
    found: list[Obj] = []
    for kind in CHILD_KINDS:
        try:
            found += cluster.list(kind, labels={SERVICE_LABEL: service})
        except Forbidden:
            continue
    return found


def may_have_children(cluster: Cluster, service: str) -> bool:
    """Return whether the objects with a Service's name can be ours."""
    found = cluster.find(KSVC, service)
    return found is None or is_ours(found, run=cluster.run)


def _users(cluster: Cluster, claim: str) -> list[Obj]:
    try:
        return [pod for pod in cluster.list(POD) if claim in claim_names(pod["spec"])]
    except Forbidden:
        return []


def _waits_for(objects: Iterable[Obj], seconds: float) -> str:
    """Say what a removal waits for: each pod at once, other objects once it takes long."""
    pods = [obj for obj in objects if kind_of(obj) == POD]
    lines = [
        ending(pod, _now()) if is_terminating(pod) else f"pod {name_of(pod)} is not being deleted"
        for pod in pods
    ]
    if any("ignores SIGTERM" in line for line in lines):
        lines.append(_SHORTEN)
    if not pods and seconds >= _LEAST_S:
        lines = [f"{kind_of(obj)} {name_of(obj)} is still there" for obj in objects]
    return "\n          ".join(lines)


def _blocked(cluster: Cluster, objects: list[Obj]) -> Explanation:
    """Explain what blocks the deletion of objects: pods, or the first one's finalizers."""
    pods = [pod for pod in objects if kind_of(pod) == POD]
    first = objects[0]
    kind, finalizers = kind_of(first), first["metadata"].get("finalizers") or []
    why = f"finalizers: {', '.join(finalizers) or 'none'}"
    if kind == PVC:
        why += f"; used by pods: {', '.join(map(name_of, pods)) or 'none'}"
    elif pods:
        why = f"still there: {', '.join(map(name_of, objects))}"
    evidence = [ending(pod, _now()) for pod in pods if is_terminating(pod)]
    overdue = [pod for pod in pods if is_terminating(pod) and not seconds_left(pod, _now())]
    if overdue:
        node = overdue[0]["spec"].get("nodeName")
        fix = f"does its node work? kubectl get node {node}; a kubelet that is down ends no pod"
    elif evidence:
        fix = f"{_SHORTEN}; or raise teardown_timeout_s and run teardown again"
    elif not is_terminating(first) and not pods:
        return Explanation("finalizer", f"deletion has not begun; {why}")
    else:
        fix = {
            PVC: "delete those pods first; never remove the finalizer, "
            "the volume would stay mounted",
            PV: "a VolumeAttachment or a PVC still uses it: kubectl get volumeattachments,pvc",
        }.get(kind, f"kubectl describe {kind} {name_of(first)}")
    return Explanation("draining" if pods else "finalizer", why, fix=fix).shown_by(*evidence)


def _now() -> datetime:
    return datetime.now(UTC)
