"""Propose a change of a Service, apply it, take it back.

A template's settings, image, flags, resources and volumes belong to a revision: every change of
them makes a new one, which needs GPUs of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qwenkit.autoscaling.annotation_keys import KEYS, PREFIX
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.cluster.change.modes import (
    IN_PLACE,
    REPLACE,
    SURGE,
    ModeForecast,
    NewRevision,
    earlier_revision,
    forecast,
    pinned_to,
    require_mode,
)
from qwenkit.cluster.change.switch import Switch
from qwenkit.cluster.change.template import SettingChange, difference, patch_between
from qwenkit.cluster.change.traffic import FOLLOW_LATEST, TrafficSwitch, split
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import CONFIGURATION, KSVC, Obj, annotations_of, latest_ready, name_of
from qwenkit.cluster.live_scaling import autoscaler_config
from qwenkit.cluster.ownership import require_not_terminating, require_ours
from qwenkit.cluster.pods import gpus_wanted
from qwenkit.cluster.preflight.free_gpus import FreeGpus, free_gpus
from qwenkit.cluster.wait import OnChange
from qwenkit.errors import Conflict, InvalidValue, NotReady
from qwenkit.language import Shown

_HARD_LIMIT = "containerConcurrency"  # the one scaling setting that is no annotation


@dataclass(frozen=True, repr=False)
class ProposedChange(Shown):
    """What a change would do; nothing is changed yet.

    ``next_revision`` is empty if there will be none, or its name cannot be known. All of ``pods``,
    its first, must be ready before it gets traffic. ``pinned`` revisions have traffic by their
    name; ``earlier`` has these settings already. ``before`` and ``after`` are the templates.
    """

    where: str  # cluster and namespace in words
    service: str
    revision: str
    next_revision: str
    diff: tuple[SettingChange, ...]
    pods: int
    gpus_needed: int
    gpus: FreeGpus
    modes: tuple[ModeForecast, ...]
    pinned: tuple[str, ...]
    earlier: str
    before: Obj
    after: Obj
    cluster: Cluster = field(compare=False)
    write: Callable[[], Obj] = field(compare=False)
    known: Mapping[str, Any] = field(compare=False)

    def mode(self, name: str | None = None) -> ModeForecast:
        """Return the forecast of a mode; without a name, of the one that costs no gap.

        To say ``surge`` is to wait for a GPU: a node pool may grow.

        Raises:
            InvalidValue: no such mode.
            NotReady: it does not work; the fix names one that does.
        """
        require_mode(name)
        found = next((one for one in self.modes if one.mode == (name or SURGE)), None)
        if found is None or found.works or name == SURGE:
            return found or ModeForecast(SURGE, True, 0.0, "nothing changes")
        others = [one for one in self.modes if one.works]
        instead = [
            f"mode {one.mode} {one.outcome} (qwenkit deploy --mode {one.mode}): {one.why}"
            for one in others
        ]
        raise NotReady(
            f"ksvc {self.service} was not changed: {found.mode} does not work now",
            f"{found.why}; GPUs: {self.gpus_needed} needed, {self.gpus}",
            "; or ".join([*instead, "wait until a replica ends, or add a node"]),
            evidence=self.gpus.holders,
        )

    def apply(
        self, mode: str | None = None, *, timeout_s: float, on_change: OnChange | None = None
    ) -> Changed:
        """Make the change; wait until the new revision is ready. A failure is rolled back.

        Raises:
            Conflict: the template is no longer the one that the change was proposed for.
            NotReady: the mode does not work, nothing was changed; or the new revision fails.
            WaitTimeout: it is not ready in time.
        """
        chosen = self.mode(mode)
        _require_unchanged(_ours(self.cluster, self.service), self.before)
        if chosen.mode == IN_PLACE:
            return self._route(self.earlier, split(self.earlier, 0), timeout_s, on_change)
        switch = Switch(
            self.cluster, self.service, self.revision, self.before, timeout_s, on_change
        )
        every_s = max(0.1, min(1.0, (chosen.gap_s or 50.0) / 50))
        new, seconds, gap_s = switch.run(self.write, chosen.mode, every_s=every_s)
        return Changed(self.revision, new, chosen.mode, seconds, chosen.gap_s, gap_s, self)

    def _route(
        self, revision: str, traffic: list[Obj], timeout_s: float, on_change: OnChange | None
    ) -> Changed:
        """Give a revision the traffic, which makes no new one."""
        began, other = time.monotonic(), {self.revision, self.earlier} - {revision}
        TrafficSwitch(self.cluster, self.service, timeout_s, on_change).set(traffic)
        seconds = round(time.monotonic() - began, 3)
        return Changed(other.pop(), revision, IN_PLACE, seconds, None, None, self)

    def brief(self, mode: str | None = None) -> str:
        """Say the change in a line; raises as ``mode``."""
        how, new = self.mode(mode), self.next_revision or "a new revision"
        more = [f"{len(self.diff) - 2} more"] * (len(self.diff) > 2)
        diff = "; ".join([*map(str, self.diff[:2]), *more])
        return f"{new} follows {self.revision} by {how.mode}, {how.gap}: {diff}"

    def __str__(self) -> str:
        if not self.diff:
            return f"ksvc {self.service}, {self.where}: nothing changes, {self.revision} serves"
        new = self.next_revision or "a new revision"
        pinned = f"traffic stays with {', '.join(self.pinned)}: {new} gets none"
        return "\n".join(
            [
                f"ksvc {self.service}, {self.where}: {new} follows {self.revision}",
                *(f"  {each}" for each in self.diff),
                f"  new pods: {self.pods}; GPUs: {self.gpus_needed} needed, {self.gpus}",
                *(f"  {each}" for each in self.gpus.holders),
                *(f"  {each}" for each in self.modes),
                *([f"  {pinned}"] if self.pinned else []),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what the change would do, for programs; seconds and GPUs are numbers."""
        names = ("where", "service", "revision", "next_revision", "diff", "pods", "gpus_needed")
        return {name: getattr(self, name) for name in (*names, "gpus", "modes", "pinned")}


@dataclass(frozen=True, repr=False)
class Changed(Shown):
    """The revisions before and after a change; the same if nothing changed.

    ``predicted_gap_s`` and ``gap_s``, measured, are seconds without a ready pod; None if unknown.
    """

    old_revision: str
    new_revision: str
    mode: str
    seconds: float
    predicted_gap_s: float | None
    gap_s: float | None
    proposed: ProposedChange = field(repr=False)

    def __str__(self) -> str:
        text = f"{self.new_revision} serves, {self.seconds:.1f} s after the change"
        if self.mode != REPLACE:
            return text
        seen = "the gap was not seen" if self.gap_s is None else f"a gap of {self.gap_s:.1f} s"
        known = "" if self.predicted_gap_s is None else f", predicted {self.predicted_gap_s:.3g} s"
        return f"{text}; {seen}{known}"

    def undo(
        self, mode: str | None = None, *, timeout_s: float, on_change: OnChange | None = None
    ) -> Changed:
        """Take the change back, as ``propose_undo`` says; errors as those of ``apply``.

        After ``in-place`` the traffic follows the latest revision again.
        """
        if self.mode == IN_PLACE:
            return self.proposed._route(self.old_revision, FOLLOW_LATEST, timeout_s, on_change)
        return propose_undo(self.proposed).apply(mode, timeout_s=timeout_s, on_change=on_change)


def propose_change(
    cluster: Cluster,
    service: str,
    annotations: Mapping[str, str | None] | None = None,
    *,
    container_concurrency: int | None = None,
    document: Mapping[str, Any] | None = None,
    clock: float = 1.0,
    cold_start_s: float | None = None,
) -> ProposedChange:
    """Return what a change would do, checked by the webhooks; change nothing.

    Args:
        cluster: with the name of its context.
        service: the Service that is changed.
        annotations: a name without a slash gets ``autoscaling.knative.dev/``; None removes one.
        container_concurrency: the hard limit too.
        document: instead of both, the whole Service as ``render`` returns it: image, flags, ….
        clock: how many times faster than the modelled GPU the nodes run.
        cold_start_s: an estimate, used where no running pod can be measured.

    Raises:
        Conflict: the Service is not this run's, or is being deleted.
        InvalidValue: no such setting, a value of the wrong type, or the context is not named.
        Rejected: the webhook refuses a value.

    >>> from qwenkit import Cluster, Settings, propose_change
    >>> change = propose_change(Cluster.connect(Settings()), Settings().service, {"target": "1"})
    >>> print(*change.diff, change.next_revision)
    autoscaling.knative.dev/target: 2 → 1 examples-00002
    >>> change.apply("surge", timeout_s=60).new_revision
    'examples-00002'
    """
    found = _ours(cluster, service)
    known = {"clock": clock, "cold_start_s": cold_start_s}
    if document is not None:
        return _proposed(cluster, found, partial(cluster.apply, document), known)
    body = {"spec": {"template": _checked(annotations or {}, container_concurrency)}}
    return _proposed(cluster, found, partial(cluster.patch, KSVC, service, body), known)


def propose_undo(change: ProposedChange) -> ProposedChange:
    """Return what taking a change back would do: a new revision with the template of before.

    Traffic to the old revision would need no new pod, but pin the Service to a name: the next
    change would get no traffic.

    Raises:
        Conflict: the template is no longer the one that the change made.
    """
    cluster, service = change.cluster, change.service
    found = _ours(cluster, service)
    _require_unchanged(found, change.after)
    body = {"spec": {"template": patch_between(change.after, change.before)}}
    return _proposed(cluster, found, partial(cluster.patch, KSVC, service, body), change.known)


def _checked(annotations: Mapping[str, str | None], limit: int | None) -> Obj:
    """Return the merge patch of a template that sets these."""
    for name, value in annotations.items():
        if "/" not in name and name not in KEYS:
            raise InvalidValue("annotation", name, f"one of {', '.join(sorted(KEYS))}")
        if value is not None and not isinstance(value, str):
            raise InvalidValue(name, value, "must be text: annotations are", f'write "{value}"')
    changed = {name if "/" in name else PREFIX + name: v for name, v in annotations.items()}
    template: Obj = {"metadata": {"annotations": changed}} if changed else {}
    if limit is not None:
        if type(limit) is not int:
            raise InvalidValue(_HARD_LIMIT, limit, "a whole number")
        template["spec"] = {_HARD_LIMIT: limit}
    return template


def _ours(cluster: Cluster, service: str) -> Obj:
    if not cluster.context:
        raise InvalidValue("context", "", "only a cluster whose context is named is changed")
    found = cluster.get(KSVC, service)
    require_ours(found, run=cluster.run)
    require_not_terminating(found)
    return found


def _require_unchanged(service: Obj, template: Obj) -> None:
    if newer := difference(template, _template(service)):
        raise Conflict(
            f"ksvc {name_of(service)} was changed since; nothing was done",
            "; ".join(map(str, newer)),
            "take the newer change back first, or propose the values that you want",
        )


def _template(service: Obj) -> Obj:
    return dict(service["spec"].get("template") or {})


def _proposed(
    cluster: Cluster, service: Obj, write: Callable[..., Obj], known: Mapping[str, Any]
) -> ProposedChange:
    """Propose what ``write`` does, which takes ``dry_run``."""
    before, after = _template(service), _template(write(dry_run=True))
    diff, old, spec = difference(before, after), latest_ready(service), after.get("spec") or {}
    gpus = free_gpus(cluster, spec)
    pods = _first_pods(cluster, annotations_of(after)) if diff else 0
    new = NewRevision(service, old, spec, pods, gpus, **known)
    earlier = earlier_revision(cluster, name_of(service), old, after) if diff else ""
    return ProposedChange(
        where=f"context {cluster.context}, namespace {cluster.namespace}",
        service=name_of(service),
        revision=old,
        next_revision=_next_revision(cluster, service) if diff else "",
        diff=diff,
        pods=pods,
        gpus_needed=pods * gpus_wanted(spec),
        gpus=gpus,
        modes=forecast(cluster, new, earlier) if diff else (),
        pinned=tuple(pinned_to(service)),
        earlier=earlier,
        before=before,
        after=after,
        cluster=cluster,
        write=write,
        known=known,
    )


def _first_pods(cluster: Cluster, annotations: Mapping[str, str]) -> int:
    """Return how many pods a new revision starts with: initial-scale, or min-scale if more."""
    try:
        spec = parse_spec(annotations, config=autoscaler_config(cluster), strict=False)
    except InvalidValue:
        return 1  # the webhook will say what is wrong
    return max(spec.min_scale, spec.initial_scale)


def _next_revision(cluster: Cluster, service: Obj) -> str:
    """Return the name that Knative gives the next revision; empty where it cannot be known."""
    named = (_template(service).get("metadata") or {}).get("name")
    made = cluster.find(CONFIGURATION, name_of(service))
    number = int((made or {}).get("metadata", {}).get("generation") or 0) + 1
    name = f"{name_of(service)}-{number:05d}"
    # Knative shortens a longer name by a hash.
    return name if made and not named and len(name) <= 63 else ""
