"""Which revisions does a Route's traffic mean now, or why can it not be assigned?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.conditions import FALSE, READY
from qwenkit.sandbox.controllers.knative.configuration import is_ready
from qwenkit.sandbox.controllers.knative.queue_proxy import protocol
from qwenkit.sandbox.controllers.object_fields import labels_of
from qwenkit.sandbox.kube.objects import Object, at, condition
from qwenkit.sandbox.kube.storage.store import ObjectStore

MAIN = ""  # the tag of the route's own address


@dataclass(frozen=True)
class TrafficTarget:
    """One revision with its share of the traffic, in percent."""

    revision: str
    configuration: str
    percent: int
    tag: str = ""
    latest: bool | None = None
    h2c: bool = False


@dataclass(frozen=True)
class Obstacle:
    """Why traffic cannot be assigned. ``failed``: waiting will not help."""

    failed: bool
    reason: str
    message: str


@dataclass
class TrafficPlan:
    """The resolved traffic: ``targets`` in order of the spec, ``by_tag`` for the routing rules."""

    targets: list[TrafficTarget] = field(default_factory=list)
    by_tag: dict[str, list[TrafficTarget]] = field(default_factory=dict)
    obstacle: Obstacle | None = None


def plan_traffic(store: ObjectStore, route: Object) -> TrafficPlan:
    """Resolve a route's traffic against the Configurations and Revisions that exist."""
    made = TrafficPlan()
    grouped: dict[str, list[TrafficTarget]] = {MAIN: []}
    for wanted in route["spec"].get("traffic", []):
        found = _resolve(store, route, wanted)
        if isinstance(found, Obstacle):
            if made.obstacle is None or found.failed:
                made.obstacle = found
            continue
        made.targets = _merged(made.targets, found)
        grouped[MAIN].append(found)
        if found.tag:
            grouped.setdefault(found.tag, []).append(found)
    made.by_tag = {tag: _consolidated(targets) for tag, targets in grouped.items() if targets}
    return made


def _resolve(
    store: ObjectStore, route: Object, wanted: Mapping[str, Any]
) -> TrafficTarget | Obstacle:
    namespace = route["metadata"]["namespace"]
    name, configuration = wanted.get("revisionName", ""), wanted.get("configurationName", "")
    if not name:
        found = store.find("Configuration", namespace, configuration)
        if found is None:
            return _missing("Configuration", configuration)
        name = at(found, "status", "latestReadyRevisionName") or ""
        if not name:
            why = f'Configuration "{configuration}" is waiting for a Revision to become ready.'
            failure = f'Configuration "{configuration}" does not have any ready Revision.'
            return _unready(found, why, failure)
    revision = store.find("Revision", namespace, name)
    if revision is None:
        return _missing("Revision", name)
    if obstacle := _foreign(route, revision) if wanted.get("revisionName") else None:
        return obstacle
    if not is_ready(revision):
        why, failure = (
            f'Revision "{name}" is not yet ready.',
            f'Revision "{name}" failed to become ready.',
        )
        return _unready(revision, why, failure)
    return TrafficTarget(
        revision=name,
        configuration=configuration or labels_of(revision).get(names.CONFIGURATION, ""),
        percent=wanted.get("percent") or 0,
        tag=wanted.get("tag", ""),
        latest=wanted.get("latestRevision"),
        h2c=protocol(revision) == "h2c",
    )


def _missing(kind: str, name: str) -> Obstacle:
    return Obstacle(True, f"{kind}Missing", f'{kind} "{name}" referenced in traffic not found.')


def _unready(obj: Object, waiting: str, failure: str) -> Obstacle:
    failed = condition(obj, READY).get("status") == FALSE
    return Obstacle(failed, "RevisionMissing", failure if failed else waiting)


def _foreign(route: Object, revision: Object) -> Obstacle | None:
    """Return an obstacle if a Service's route points at another Service's revision."""
    ours, theirs = (labels_of(obj).get(names.SERVICE, "") for obj in (route, revision))
    if not ours or ours == theirs:
        return None
    name = revision["metadata"]["name"]
    message = f'Revision "{name}" does not belong to Service "{ours}".'
    if theirs:
        message = f'Revision "{name}" belongs to Service "{theirs}", not Service "{ours}".'
    return Obstacle(True, "RevisionNotOwned", message)


def _merged(targets: list[TrafficTarget], new: TrafficTarget) -> list[TrafficTarget]:
    """Add a target, to the share of the same one if it is there already."""
    same = (new.tag, new.revision, new.latest)
    for index, old in enumerate(targets):
        if (old.tag, old.revision, old.latest) == same:
            joined = replace(old, percent=old.percent + new.percent)
            return [*targets[:index], joined, *targets[index + 1 :]]
    return [*targets, new]


def _consolidated(targets: list[TrafficTarget]) -> list[TrafficTarget]:
    """Join the shares of each revision; a single one gets everything."""
    shares: dict[str, int] = {}
    for target in targets:
        shares[target.revision] = shares.get(target.revision, 0) + target.percent
    firsts = {target.revision: target for target in reversed(targets)}
    if len(shares) == 1:
        return [replace(target, percent=100) for target in firsts.values()]
    return [replace(firsts[name], percent=percent) for name, percent in shares.items()]
