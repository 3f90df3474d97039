"""Which revision of a Service gets which share of its requests.

A new revision gets none while the traffic is pinned to another; the address of its tag reaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qwenkit.cluster.change.switch import delete_behind
from qwenkit.cluster.change.template import patch_between, template_of
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    KSVC,
    REVISION,
    SERVICE_LABEL,
    Obj,
    is_true,
    labels_of,
    latest_ready,
    name_of,
)
from qwenkit.cluster.pods import is_current
from qwenkit.cluster.wait import OnChange, wait
from qwenkit.errors import Conflict

STABLE, CANDIDATE = "stable", "candidate"
FOLLOW_LATEST: list[Obj] = [{"latestRevision": True, "percent": 100}]
_GENERATION = "serving.knative.dev/configurationGeneration"


def split(stable: str, percent: int) -> list[Obj]:
    """Return a traffic that gives the latest revision ``percent`` and ``stable`` the others."""
    return [
        {"revisionName": stable, "percent": 100 - percent, "tag": STABLE},
        {"latestRevision": True, "percent": percent, "tag": CANDIDATE},
    ]


@dataclass(frozen=True)
class TrafficSwitch:
    """Changes who gets the requests of a Service; waits until its gateway does so."""

    cluster: Cluster
    service: str
    timeout_s: float
    on_change: OnChange | None = None

    def stable(self) -> str:
        """Return the revision to go back to, empty if the Service follows its latest.

        Raises:
            Conflict: somebody else has pinned the traffic.
        """
        traffic = self.cluster.get(KSVC, self.service)["spec"].get("traffic") or []
        pinned = [each for each in traffic if each.get("revisionName")]
        if any(each.get("tag") != STABLE for each in pinned):
            raise Conflict(
                f"ksvc {self.service} was not changed: its traffic is pinned by hand",
                ", ".join(f"{each['revisionName']} {each.get('percent', 0)} %" for each in pinned),
                "remove spec.traffic: kubectl edit ksvc " + self.service,
            )
        return str(pinned[0]["revisionName"]) if pinned else ""

    def set(self, traffic: list[Obj], template: Obj | None = None) -> None:
        """Patch the traffic, and the template in the same step."""
        body: Obj = {"traffic": traffic} | ({"template": template} if template else {})
        patched = self.cluster.patch(KSVC, self.service, {"spec": body})["metadata"]
        self._wait(
            "the new traffic",
            lambda found: (
                found["metadata"]["generation"] >= patched["generation"]
                and is_current(found)
                and is_true(found, "RoutesReady")
            ),
        )

    def roll_back(self) -> str:
        """Give all requests back to the stable revision at once; then follow the latest again.

        The template of the stable one makes a new revision. Until that is ready, the stable one
        is the latest that is, because what came between is deleted. Return it, "" without one.
        """
        stable = self.stable()
        if not stable:
            return ""
        old, found = self.cluster.get(REVISION, stable), self.cluster.get(KSVC, self.service)
        made = self.cluster.list(REVISION, labels={SERVICE_LABEL: self.service})
        newer = [name_of(each) for each in made if _generation(each) > _generation(old)]
        template = patch_between(found["spec"]["template"], template_of(old))
        self.set(split(stable, 0), template)
        if template:
            for name in newer:
                delete_behind(self.cluster, self.service, name)
            self._wait("the candidate gone", lambda found: latest_ready(found) not in newer)
        self.set(FOLLOW_LATEST)
        return stable

    def _wait(self, what: str, ready: Callable[[Obj], bool]) -> None:
        wait(
            lambda: self.cluster.get(KSVC, self.service),
            what=f"ksvc {self.service}: {what}",
            ready=ready,
            describe=_shares,
            timeout_s=self.timeout_s,
            every_s=0.2,
            on_change=self.on_change,
        )


def _generation(revision: Obj) -> int:
    return int(labels_of(revision).get(_GENERATION) or 0)


def _shares(service: Obj) -> str:
    traffic = (service.get("status") or {}).get("traffic") or []
    return ", ".join(f"{each['revisionName']} {each.get('percent') or 0} %" for each in traffic)
