"""Old revisions that nobody reaches are deleted, as ``config-gc`` says.

As in Knative, nothing here watches the time: a Configuration is looked at when it or one of its
revisions changes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qwenkit.autoscaling.golang import parse_duration_s, parse_int
from qwenkit.sandbox.controllers.knative import names
from qwenkit.sandbox.controllers.loop import Controller, Key, deleting, key_of
from qwenkit.sandbox.kube.history import WatchEvent
from qwenkit.sandbox.kube.objects import Object, at, parse_timestamp, utc_now

log = logging.getLogger("qwenkit.sandbox.controllers")
CONFIG = "config-gc"
_KEEP = f"{names.SERVING}/no-gc"
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Limits:
    """What is kept of the revisions that no route reaches; None is no limit."""

    since_created_s: float | None = 48 * _HOUR_S
    since_active_s: float | None = 15 * _HOUR_S
    least: int = 20
    most: int | None = 1000

    @property
    def off(self) -> bool:
        """Whether nothing is ever deleted."""
        return self.most is None and not self.by_age

    @property
    def by_age(self) -> bool:
        """Whether age alone makes a revision stale."""
        return self.since_created_s is not None or self.since_active_s is not None


class RevisionGarbage(Controller):
    """Looks after the old revisions of Configurations."""

    name = "revision-garbage"
    kind = "Configuration"
    watches = frozenset({"Configuration", "Revision", "ConfigMap"})

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """The ConfigMap concerns every Configuration."""
        if change.kind != "ConfigMap":
            return super().keys(change)
        if change.object["metadata"]["name"] != CONFIG:
            return []
        return [key_of(item) for item in self.store.list(self.kind)]

    def reconcile(self, namespace: str, name: str) -> None:
        """Delete what is stale, then the oldest beyond the number that is kept."""
        configuration = self.store.find(self.kind, namespace, name)
        limits = read_limits(self.world.config(CONFIG))
        if configuration is None or deleting(configuration) or limits.off:
            return
        revisions = self.store.list("Revision", namespace, {names.CONFIGURATION: name})
        if len(revisions) > limits.least:
            idle = [r for r in revisions if not deleting(r) and _is_idle(r, configuration)]
            for revision in chosen(idle, limits):
                self.store.delete("Revision", *key_of(revision))


def read_limits(data: Mapping[str, str]) -> Limits:
    """Read the ConfigMap; one that Knative's webhook would refuse counts as empty."""
    defaults = Limits()

    def given(key: str) -> str:
        return data.get(key, "").strip()

    def duration(key: str, default: float | None) -> float | None:
        if given(key).lower() == "disabled":
            return None
        return parse_duration_s(given(key)) if given(key) else default

    def count(key: str, default: int) -> int:
        return parse_int(given(key), bits=64) if given(key) else default

    try:
        most = given("max-non-active-revisions").lower()
        return Limits(
            duration("retain-since-create-time", defaults.since_created_s),
            duration("retain-since-last-active-time", defaults.since_active_s),
            count("min-non-active-revisions", defaults.least),
            None if most == "disabled" else count("max-non-active-revisions", 1000),
        )
    except ValueError as error:
        log.warning("%s is not used: %s", CONFIG, error)
        return defaults


def chosen(idle: list[Object], limits: Limits) -> list[Object]:
    """Return which of the revisions that no route reaches are to go, the oldest first."""
    oldest_first = sorted(idle, key=_last_active)
    most = max(0, len(idle) - limits.least)
    stale = [revision for revision in oldest_first if _is_stale(revision, limits)][:most]
    left = [revision for revision in oldest_first if revision not in stale]
    if limits.most is None or len(stale) == most:
        return stale
    return stale + left[: max(0, len(left) - limits.most)]


def _is_idle(revision: Object, configuration: Object) -> bool:
    metadata = revision["metadata"]
    if metadata["name"] == at(configuration, "status", "latestReadyRevisionName"):
        return False
    if metadata.get("annotations", {}).get(_KEEP, "").lower() == "true":
        return False
    return bool(metadata.get("labels", {}).get(names.ROUTING_STATE) == "reserve")


def _is_stale(revision: Object, limits: Limits) -> bool:
    ages = (
        (limits.since_created_s, revision["metadata"]["creationTimestamp"]),
        (limits.since_active_s, _last_active(revision)),
    )
    kept = (limit is not None and _age_s(moment) < limit for limit, moment in ages)
    return limits.by_age and not any(kept)


def _last_active(revision: Object) -> str:
    metadata = revision["metadata"]
    moment: str = metadata.get("annotations", {}).get(names.ROUTING_STATE_MODIFIED, "")
    return moment or str(metadata["creationTimestamp"])


def _age_s(moment: str) -> float:
    return (utc_now() - parse_timestamp(moment)).total_seconds()
