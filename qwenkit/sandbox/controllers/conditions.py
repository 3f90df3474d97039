"""How do the conditions of a Knative object decide its Ready condition?

The rules are those of ``knative.dev/pkg/apis``: a False dependent beats an Unknown one, Ready
takes reason and message from the one that changed last, and a transition time moves only when
something else did.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenkit.sandbox.kube.objects import Object, copied, timestamp, utc_now

READY = "Ready"
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


class Conditions:
    """Reads and marks the conditions of one status, in place, during one reconciliation.

    The object is Ready when all ``dependents`` are True; other conditions are informational.
    """

    def __init__(self, dependents: Sequence[str], status: Object) -> None:
        self._dependents, self._status = dependents, status
        self._before: list[Object] = copied(status.get("conditions", []))
        self._marked: dict[str, int] = {}

    def get(self, kind: str) -> Object:
        """Return the condition, or an empty dict."""
        return next((c for c in self._all() if c["type"] == kind), {})

    def status(self, kind: str) -> str:
        """Return its status; a condition that is not there is Unknown."""
        found: str = self.get(kind).get("status", UNKNOWN)
        return found

    def initialize(self) -> None:
        """Add the missing conditions: Unknown, or True if Ready is True already."""
        if not self.get(READY):
            self._set(READY, UNKNOWN)
        implied = TRUE if self.status(READY) == TRUE else UNKNOWN
        for kind in self._dependents:
            if not self.get(kind):
                self._set(kind, implied)

    def mark_true(self, kind: str, reason: str = "", message: str = "") -> None:
        """Mark True, and Ready with it if every dependent is True."""
        self._set(kind, TRUE, reason, message)
        unhappy = self._unhappy()
        if unhappy is not None:
            self._set(
                READY, unhappy["status"], unhappy.get("reason", ""), unhappy.get("message", "")
            )
        elif kind != READY:
            self._set(READY, TRUE)

    def mark_unknown(self, kind: str, reason: str = "", message: str = "") -> None:
        """Mark Unknown, and Ready with it unless a dependent is False."""
        self._set(kind, UNKNOWN, reason, message)
        if any(self.status(other) == FALSE for other in self._dependents):
            if self.status(READY) != FALSE:
                self.mark_false(READY, reason, message)
        elif kind in self._dependents:
            self._set(READY, UNKNOWN, reason, message)

    def mark_false(self, kind: str, reason: str, message: str) -> None:
        """Mark False, and Ready with it."""
        self._set(kind, FALSE, reason, message)
        if kind in self._dependents:
            self._set(READY, FALSE, reason, message)

    def follow(self, kind: str, other: Object) -> None:
        """Mark as another object's condition is; one that is not there is Unknown."""
        reason, message = other.get("reason", ""), other.get("message", "")
        if other.get("status") == TRUE:
            self.mark_true(kind)
        elif other.get("status") == FALSE:
            self.mark_false(kind, reason, message)
        else:
            self.mark_unknown(kind, reason, message)

    def groom(self) -> None:
        """Restore the transition time of each condition that is the same as before."""
        old = {condition["type"]: condition for condition in self._before}
        now = timestamp(utc_now())
        for condition in self._all():
            then = old.get(condition["type"], {}).get("lastTransitionTime", now)
            same = {**condition, "lastTransitionTime": then} == old.get(condition["type"])
            condition["lastTransitionTime"] = then if same else now

    def _all(self) -> list[Object]:
        found: list[Object] = self._status.get("conditions", [])
        return found

    def _set(self, kind: str, status: str, reason: str = "", message: str = "") -> None:
        new: Object = {"type": kind, "status": status}
        if kind != READY and kind not in self._dependents:
            new["severity"] = "Info"
        new |= {key: value for key, value in (("reason", reason), ("message", message)) if value}
        old = self.get(kind)
        if {**old, "lastTransitionTime": ""} == {**new, "lastTransitionTime": ""}:
            return
        self._marked[kind] = len(self._marked) + 1 + max(self._marked.values(), default=0)
        new["lastTransitionTime"] = timestamp(utc_now())
        others = [condition for condition in self._all() if condition["type"] != kind]
        self._status["conditions"] = sorted([*others, new], key=lambda c: str(c["type"]))

    def _unhappy(self) -> Object | None:
        """Return the dependent that keeps Ready from being True, the latest change first."""
        known = [c for c in self._all() if c["type"] in self._dependents]
        known.sort(
            key=lambda c: (c["lastTransitionTime"], self._marked.get(c["type"], 0)), reverse=True
        )
        for status in (FALSE, UNKNOWN):
            for condition in known:
                if condition["status"] == status:
                    return condition
        return {"status": UNKNOWN} if len(known) < len(self._dependents) else None
