"""Change how a Service scales: show the difference first, apply it, take it back.

A scaling setting belongs to the revision's template, so every change makes a new revision. Its
first pods need GPUs of their own, because the old revision serves until they are ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qwenkit.autoscaling.annotation_keys import KEYS, PREFIX
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import CONFIGURATION, KSVC, Obj, name_of
from qwenkit.cluster.live_scaling import autoscaler_config
from qwenkit.cluster.ownership import require_not_terminating, require_ours
from qwenkit.cluster.pods import gpus_wanted
from qwenkit.cluster.preflight.free_gpus import FreeGpus, free_gpus
from qwenkit.cluster.rollout import latest_ready, wait_ready
from qwenkit.cluster.wait import OnChange
from qwenkit.errors import Conflict, InvalidValue, NotReady

HARD_LIMIT = "containerConcurrency"  # the one scaling setting that is no annotation


@dataclass(frozen=True)
class SettingChange:
    """One setting of the template, before and after; None where it is not set."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        before, after = ("unset" if v is None else v for v in (self.before, self.after))
        return f"{self.name}: {before} → {after}"


@dataclass(frozen=True)
class ProposedChange:
    """What a change would do; nothing is changed yet.

    ``next_revision`` is empty if there will be none, or its name cannot be known. All of ``pods``,
    its first, must be ready before it gets traffic. ``before`` and ``after`` are all settings.
    """

    where: str  # cluster and namespace in words
    service: str
    revision: str
    next_revision: str
    diff: tuple[SettingChange, ...]
    pods: int
    gpus_needed: int
    gpus: FreeGpus
    before: Mapping[str, str] = field(repr=False)
    after: Mapping[str, str] = field(repr=False)

    def require_gpus(self) -> None:
        """Raise ``NotReady`` if the first pods would get no GPU; it says who holds the others."""
        if self.gpus_needed and not self.gpus.unknown and self.gpus.places < self.pods:
            raise NotReady(
                f"ksvc {self.service} was not changed: not enough GPUs are free for a new revision",
                f"new pods: {self.pods}; GPUs: {self.gpus_needed} needed, {self.gpus}",
                "wait until a replica ends, or add a node; change_scaling(…, wait_for_gpu=True) "
                "changes all the same",
                evidence=self.gpus.holders,
            )


@dataclass(frozen=True)
class ScalingChange:
    """The revisions before and after a change of annotations; the same if nothing changed."""

    old_revision: str
    new_revision: str
    seconds: float
    proposed: ProposedChange = field(repr=False)


def propose_change(
    cluster: Cluster,
    service: str,
    annotations: Mapping[str, str | None],
    *,
    container_concurrency: int | None = None,
) -> ProposedChange:
    """Return what a change of annotations would do, checked by the webhooks; change nothing.

    A name without a slash gets the prefix ``autoscaling.knative.dev/``; None removes one.
    ``container_concurrency`` changes the hard limit too.

    Raises:
        Conflict: the Service is not this run's, or is being deleted.
        InvalidValue: no such setting, a value of the wrong type, or the context is not named.
        Rejected: the webhook refuses a value.

    >>> from qwenkit import Cluster, Settings, propose_change
    >>> change = propose_change(Cluster.connect(Settings()), Settings().service, {"target": "1"})
    >>> print(*change.diff, change.next_revision)
    autoscaling.knative.dev/target: 2 → 1 examples-00002
    """
    for name, value in annotations.items():
        if "/" not in name and name not in KEYS:
            raise InvalidValue("annotation", name, f"one of {', '.join(sorted(KEYS))}")
        if value is not None and not isinstance(value, str):
            raise InvalidValue(name, value, "must be text: annotations are", f'write "{value}"')
    found = _ours(cluster, service)
    after = _settings(found) | {n if "/" in n else PREFIX + n: v for n, v in annotations.items()}
    if container_concurrency is not None:
        if type(container_concurrency) is not int:
            raise InvalidValue(HARD_LIMIT, container_concurrency, "a whole number")
        after[HARD_LIMIT] = str(container_concurrency)
    return _proposed(cluster, found, {n: v for n, v in after.items() if v is not None})


def propose_undo(cluster: Cluster, change: ProposedChange) -> ProposedChange:
    """Return what taking a change back would do: a new revision with the settings of before.

    Raises:
        Conflict: the settings are no longer those that the change made.
    """
    found = _ours(cluster, change.service)
    _require_unchanged(found, change.after)
    return _proposed(cluster, found, change.before)


def apply_change(
    cluster: Cluster,
    change: ProposedChange,
    *,
    timeout_s: float,
    on_change: OnChange | None = None,
    wait_for_gpu: bool = False,
) -> ScalingChange:
    """Make a proposed change; wait until the Service is ready with it.

    With ``wait_for_gpu`` also if no GPU is free now: a node pool may grow.

    Raises:
        Conflict: the settings are no longer those that the change was proposed for.
        NotReady: no GPU is free, nothing was changed; or the new revision fails.
        WaitTimeout: it is not ready in time.
    """
    _require_unchanged(_ours(cluster, change.service), change.before)
    if not wait_for_gpu:
        change.require_gpus()
    done = wait_ready(
        cluster,
        change.service,
        generation=int(_patch(cluster, change)["metadata"]["generation"]),
        timeout_s=timeout_s,
        on_change=on_change,
    )
    ready = latest_ready(done.value)
    return ScalingChange(change.revision, ready, round(done.seconds, 3), proposed=change)


def change_scaling(
    cluster: Cluster,
    service: str,
    annotations: Mapping[str, str | None],
    *,
    timeout_s: float,
    on_change: OnChange | None = None,
    container_concurrency: int | None = None,
    wait_for_gpu: bool = False,
) -> ScalingChange:
    """Change annotations of the template, which makes a new revision; wait until it is ready.

    Arguments and errors are those of ``propose_change`` and ``apply_change``.

    >>> from qwenkit import Cluster, Settings, change_scaling
    >>> cluster, s = Cluster.connect(Settings()), Settings()
    >>> one = {"target": "1"}
    >>> change_scaling(cluster, s.service, one, timeout_s=60, wait_for_gpu=True).new_revision
    'examples-00002'
    """
    limit = container_concurrency
    change = propose_change(cluster, service, annotations, container_concurrency=limit)
    return apply_change(
        cluster, change, timeout_s=timeout_s, on_change=on_change, wait_for_gpu=wait_for_gpu
    )


def undo_change(
    cluster: Cluster,
    change: ScalingChange,
    *,
    timeout_s: float,
    on_change: OnChange | None = None,
    wait_for_gpu: bool = False,
) -> ScalingChange:
    """Take a change back: a new revision with exactly the settings of before; wait for it.

    Traffic to the old revision would need no new pod, but pin the Service to a name: the next
    change would get no traffic. A new revision leaves a Service that follows its latest one.
    The errors are those of ``propose_undo`` and ``apply_change``.

    >>> from qwenkit import Cluster, Settings, change_scaling, undo_change
    >>> cluster, s = Cluster.connect(Settings()), Settings()
    >>> same = change_scaling(cluster, s.service, {"target": "1"}, timeout_s=60)
    >>> undo_change(cluster, same, timeout_s=60).new_revision
    'examples-00002'
    """
    back = propose_undo(cluster, change.proposed)
    return apply_change(
        cluster, back, timeout_s=timeout_s, on_change=on_change, wait_for_gpu=wait_for_gpu
    )


def _ours(cluster: Cluster, service: str) -> Obj:
    if not cluster.context:
        raise InvalidValue("context", "", "only a cluster whose context is named is changed")
    found = cluster.get(KSVC, service)
    require_ours(found, run=cluster.run)
    require_not_terminating(found)
    return found


def _require_unchanged(service: Obj, settings: Mapping[str, str]) -> None:
    if newer := _diff(settings, _settings(service)):
        raise Conflict(
            f"ksvc {name_of(service)} was changed since; nothing was done",
            "; ".join(map(str, newer)),
            "take the newer change back first, or propose the values that you want",
        )


def _settings(service: Obj) -> dict[str, str | None]:
    """Return the template's annotations, and the hard limit by its field's name."""
    template = service["spec"].get("template") or {}
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    limit = (template.get("spec") or {}).get(HARD_LIMIT) or 0
    return {**annotations, HARD_LIMIT: str(limit)}


def _proposed(cluster: Cluster, service: Obj, after: Mapping[str, str]) -> ProposedChange:
    before = {name: value for name, value in _settings(service).items() if value is not None}
    template, diff = service["spec"].get("template") or {}, _diff(before, after)
    pods, spec = _first_pods(cluster, after), template.get("spec") or {}
    change = ProposedChange(
        where=f"context {cluster.context}, namespace {cluster.namespace}",
        service=name_of(service),
        revision=latest_ready(service),
        next_revision=_next_revision(cluster, service) if diff else "",
        diff=diff,
        pods=pods if diff else 0,
        gpus_needed=pods * gpus_wanted(spec) if diff else 0,
        gpus=free_gpus(cluster, spec),
        before=before,
        after=after,
    )
    _patch(cluster, change, dry_run=True)
    return change


def _diff(
    before: Mapping[str, str | None], after: Mapping[str, str | None]
) -> tuple[SettingChange, ...]:
    changes = (SettingChange(k, before.get(k), after.get(k)) for k in sorted({*before, *after}))
    return tuple(change for change in changes if change.before != change.after)


def _patch(cluster: Cluster, change: ProposedChange, *, dry_run: bool = False) -> Obj:
    changed = {each.name: each.after for each in change.diff}
    limit = changed.pop(HARD_LIMIT, None)
    template: Obj = {"metadata": {"annotations": changed}} if changed else {}
    if limit is not None:
        template["spec"] = {HARD_LIMIT: int(limit)}
    return cluster.patch(KSVC, change.service, {"spec": {"template": template}}, dry_run=dry_run)


def _first_pods(cluster: Cluster, settings: Mapping[str, str]) -> int:
    """Return how many pods a new revision starts with: initial-scale, or min-scale if more."""
    try:
        spec = parse_spec(settings, config=autoscaler_config(cluster), strict=False)
    except InvalidValue:
        return 1  # the webhook will say what is wrong
    return max(spec.min_scale, spec.initial_scale)


def _next_revision(cluster: Cluster, service: Obj) -> str:
    """Return the name that Knative gives the next revision; empty where it cannot be known."""
    named = ((service["spec"].get("template") or {}).get("metadata") or {}).get("name")
    made = cluster.find(CONFIGURATION, name_of(service))
    number = int((made or {}).get("metadata", {}).get("generation") or 0) + 1
    name = f"{name_of(service)}-{number:05d}"
    # Knative shortens a longer name by a hash.
    return name if made and not named and len(name) <= 63 else ""
