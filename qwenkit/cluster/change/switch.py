"""Switch a Service to another template in one of the modes, and back if that fails.

``replace`` must take the pods of the old revision down while it is the latest ready one. On a
real Knative only one way holds: the autoscaler keeps a revision with requests at one pod, and the
Revision's reconciler undoes what is written to its PodAutoscaler and Deployment
(serving: pkg/reconciler/revision/reconcile_resources.go). A deleted Revision stays deleted: once
the Configuration has made the next one, it does not come back, and its reconciler is made for a
latest ready revision that somebody deletes (pkg/reconciler/configuration/configuration.go, since
0.13; ``kn revision delete`` does the same). Its pods end in their own time, as in a scale-down.
The way back is the template of before, in a new revision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qwenkit.cluster.change.modes import REPLACE
from qwenkit.cluster.change.template import patch_between
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    CONFIGURATION,
    KSVC,
    REVISION,
    SERVICE_LABEL,
    Obj,
    labels_of,
    latest_created,
    latest_ready,
)
from qwenkit.cluster.pods import is_current
from qwenkit.cluster.rollout import wait_ready
from qwenkit.cluster.wait import OnChange, Transition, wait
from qwenkit.cluster.watching import ClusterSample, ClusterWatch
from qwenkit.errors import Conflict, QwenkitError

_RECONCILE_S = 60.0  # for Knative to make the next revision


@dataclass(frozen=True)
class Switch:
    """A Service, the revision that serves, and the template of before."""

    cluster: Cluster
    service: str
    old: str
    before: Obj
    timeout_s: float
    on_change: OnChange | None = None

    def run(
        self, write: Callable[[], Obj], mode: str, *, every_s: float
    ) -> tuple[str, float, float | None]:
        """Write the new template, and wait until its revision is ready; put it back on failure.

        Return the revision, the seconds until it was ready, and those of the gap, None if not seen.
        The gap lasts from the last look at which a pod of the old revision was ready to the first
        at which the new one has the traffic and a ready pod; a look is taken ``every_s``.

        Raises:
            QwenkitError: the failure; ``what`` says what serves now.
        """
        began = time.monotonic()
        with ClusterWatch(self.cluster, self.service, every_s=every_s) as watch:
            written = write()
            try:
                if mode == REPLACE:
                    self._delete(self.old)
                ready = self._wait(written)
            except KeyboardInterrupt as stop:
                stop.add_note(self._left(mode))
                raise
            except QwenkitError as failure:
                raise self._back(failure, written, mode) from failure
            seconds = time.monotonic() - began
        return ready, round(seconds, 3), gap_s(watch.samples(), self.old, ready)

    def _wait(self, written: Obj) -> str:
        generation = int(written["metadata"]["generation"])
        done = wait_ready(
            self.cluster,
            self.service,
            generation=generation,
            timeout_s=self.timeout_s,
            on_change=self.on_change,
        )
        return latest_ready(done.value)

    def _delete(self, revision: str) -> None:
        delete_behind(self.cluster, self.service, revision, timeout_s=self.timeout_s)

    def _left(self, mode: str) -> str:
        """Finish what would leave neither the old nor the new; say what is left."""
        until = f"{self.old} serves until then"
        if mode == REPLACE:
            self._delete(self.old)
            until = f"nothing serves until then, {self.old} is gone"
        return (
            f"ksvc {self.service} has the new template: the new revision gets the requests when it "
            f"is ready; {until}. The same command again waits for it; the settings of before, "
            "applied again, take it back"
        )

    def _back(self, failure: QwenkitError, written: Obj, mode: str) -> QwenkitError:
        """Put the template of before back; return the failure with what was done about it."""
        try:
            back = self._put_back(written)
            if mode == REPLACE:
                if self.on_change is not None:
                    self.on_change(Transition(0.0, f"rolling back: {failure.why}"))
                serves = self._wait(back)
                state = f"rolled back: {serves} serves, with the template of before"
            else:  # nothing to wait for: a copy of what serves takes over when it is ready
                serves = self.old
                state = f"rolled back: {serves} serves on, its template is put back"
            failure.context["rolled_back_to"] = serves
        except QwenkitError as again:
            state = f"the way back: {again.what}: {again.why}"
            failure.fix = f"{failure.fix}; qwenkit explain {self.service} says what it waits for"
        what = f"{failure.what}; {state}"
        return type(failure)(what, failure.why, failure.fix, **failure.context)

    def _put_back(self, written: Obj) -> Obj:
        now, ours = self.cluster.get(KSVC, self.service), written["spec"]["template"]
        failed = latest_created(self.cluster.find(CONFIGURATION, self.service) or {})
        if now["spec"]["template"] != ours:
            raise Conflict(
                f"ksvc {self.service} was not put back",
                "somebody has changed it since",
                "propose the values that you want",
            )
        body = {"spec": {"template": patch_between(ours, self.before)}}
        back = self.cluster.patch(KSVC, self.service, body)
        if failed not in ("", self.old):  # it may hold a GPU that the next one needs
            self._delete(failed)
        return back


def delete_behind(
    cluster: Cluster, service: str, revision: str, *, timeout_s: float = _RECONCILE_S
) -> None:
    """Delete a revision, once Knative has made the next: the latest would be made again.

    Raises:
        WaitTimeout: Knative has not made the next one in time, at most a minute.
        Forbidden: this role may not delete revisions.
    """
    wait(
        lambda: cluster.get(CONFIGURATION, service),
        what=f"a revision after {revision}",
        ready=lambda found: is_current(found) and latest_created(found) not in ("", revision),
        describe=lambda found: f"latest created: {latest_created(found)}",
        timeout_s=min(timeout_s, _RECONCILE_S),
        every_s=0.2,
    )
    found = cluster.find(REVISION, revision)
    if found is not None and labels_of(found).get(SERVICE_LABEL) == service:
        cluster.delete_made(found)


def gap_s(samples: Iterable[ClusterSample], old: str, new: str) -> float | None:
    """Return the seconds between the last ready pod of one revision and the next one's service."""
    seen = [one for one in samples if not one.error]
    lasts = [one.at_s for one in seen if old in one.revisions and one.revisions[old].ready]
    firsts = [one.at_s for one in seen if one.serving == new and one.served.ready]
    return round(max(0.0, firsts[0] - lasts[-1]), 3) if firsts and lasts else None
