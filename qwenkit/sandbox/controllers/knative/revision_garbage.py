"""Which old revisions are deleted? Those that no route reaches, as ``config-gc`` says.

As in Knative, nothing here watches the time: a Configuration is checked when it or one of its
revisions changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from qwenkit.autoscaling.golang import parse_duration_s, parse_int
from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.loop import Controller
from qwenkit.sandbox.controllers.object_fields import annotations_of, deleting, key_of, labels_of
from qwenkit.sandbox.kube.objects import Object, at, parse_timestamp, utc_now

log = logging.getLogger("qwenkit.sandbox.controllers")
CONFIG = "config-gc"
_HOUR_S = 3600.0
T = TypeVar("T")
_count = partial(parse_int, bits=64)


@dataclass(frozen=True)
class RevisionRetention:
    """How many unreached revisions are kept, and for how long; None is no limit."""

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


class RevisionGarbageCollector(Controller):
    """Deletes old revisions of Configurations."""

    name = "revision-garbage"
    kind = "Configuration"
    watches = frozenset({"Configuration", "Revision", "ConfigMap"})
    configs = frozenset({CONFIG})

    def reconcile(self, namespace: str, name: str) -> None:
        """Delete the stale revisions, then the oldest beyond the number that is kept."""
        configuration = self.store.find(self.kind, namespace, name)
        retention = read_retention(self.context.config(CONFIG))
        if configuration is None or deleting(configuration) or retention.off:
            return
        revisions = self.store.list("Revision", namespace, {names.CONFIGURATION: name})
        if len(revisions) > retention.least:
            idle = [r for r in revisions if not deleting(r) and _is_idle(r, configuration)]
            for revision in chosen(idle, retention):
                self.store.delete("Revision", *key_of(revision))


def read_retention(data: Mapping[str, str]) -> RevisionRetention:
    """Read the ConfigMap; one that Knative's webhook would refuse counts as empty."""
    defaults = RevisionRetention()

    def given(key: str) -> str:
        return data.get(key, "").strip()

    def limit(key: str, default: T | None, parse: Callable[[str], T]) -> T | None:
        if given(key).lower() == "disabled":
            return None
        return parse(given(key)) if given(key) else default

    try:
        return RevisionRetention(
            limit("retain-since-create-time", defaults.since_created_s, parse_duration_s),
            limit("retain-since-last-active-time", defaults.since_active_s, parse_duration_s),
            _count(given("min-non-active-revisions") or str(defaults.least)),
            limit("max-non-active-revisions", defaults.most, _count),
        )
    except ValueError as error:
        log.warning("%s is not used: %s", CONFIG, error)
        return defaults


def chosen(idle: list[Object], retention: RevisionRetention) -> list[Object]:
    """Return which of the revisions that no route reaches are deleted, the oldest first."""
    oldest_first = sorted(idle, key=_last_active)
    most = max(0, len(idle) - retention.least)
    stale = [revision for revision in oldest_first if _is_stale(revision, retention)][:most]
    left = [revision for revision in oldest_first if revision not in stale]
    if retention.most is None or len(stale) == most:
        return stale
    return stale + left[: max(0, len(left) - retention.most)]


def _is_idle(revision: Object, configuration: Object) -> bool:
    metadata = revision["metadata"]
    if metadata["name"] == at(configuration, "status", "latestReadyRevisionName"):
        return False
    if annotations_of(revision).get(names.NO_GC, "").lower() == "true":
        return False
    return bool(labels_of(revision).get(names.ROUTING_STATE) == "reserve")


def _is_stale(revision: Object, retention: RevisionRetention) -> bool:
    ages = (
        (retention.since_created_s, revision["metadata"]["creationTimestamp"]),
        (retention.since_active_s, _last_active(revision)),
    )
    kept = (limit is not None and _age_s(moment) < limit for limit, moment in ages)
    return retention.by_age and not any(kept)


def _last_active(revision: Object) -> str:
    created: str = revision["metadata"]["creationTimestamp"]
    return annotations_of(revision).get(names.ROUTING_STATE_MODIFIED) or created


def _age_s(moment: str) -> float:
    return (utc_now() - parse_timestamp(moment)).total_seconds()
