"""Follow the logs of the Job's pods, and explain why it fails or cannot start."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.causes.images import IMAGE
from qwenkit.cluster.diagnosis.causes.order import first_cause
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.reading import collect_job
from qwenkit.cluster.kinds import JOB, JOB_LABEL, POD, Obj, condition, is_true, name_of
from qwenkit.cluster.pods import containers, pod_state
from qwenkit.cluster.wait import OnChange, wait
from qwenkit.errors import (
    Conflict,
    Forbidden,
    InvalidValue,
    NotFound,
    NotReady,
    QwenkitError,
    Rejected,
    Unreachable,
    WaitTimeout,
)
from qwenkit.in_cluster.manifest import CONTAINER
from qwenkit.in_cluster.output import read_error

# Another attempt would fail in the same way; other errors may be temporary.
_PERMANENT = (Conflict, Forbidden, InvalidValue, NotFound, Rejected)
_CANNOT_RUN = (126, 127, 128)
_LOG_LINES = 10_000
_SHOWN_LINES = 6
_MARGIN_S = 60.0


@dataclass(frozen=True)
class _JobState:
    """A Job and its pods at one moment, the newest pod last."""

    job: Obj
    pods: tuple[Obj, ...]

    @property
    def newest(self) -> Obj | None:
        return self.pods[-1] if self.pods else None

    @property
    def indexed(self) -> bool:
        return bool(self.job["spec"].get("completionMode") == "Indexed")

    @property
    def broken(self) -> list[Obj]:
        """The pods that failed, the newest first; of attempts only the newest counts."""
        pods = reversed(self.pods) if self.indexed else self.pods[-1:]
        return [pod for pod in pods if pod["status"].get("phase") == "Failed"]

    def __str__(self) -> str:
        name = f"job {name_of(self.job)}"
        if ended := next((kind for kind in ("Complete", "Failed") if is_true(self.job, kind)), ""):
            return f"{name}: {ended}"
        if self.newest is None:
            return f"{name}: no pod yet"
        if self.indexed:
            return f"{name}: {'; '.join(sorted({pod_state(pod) for pod in self.pods}))}"
        return f"{name}, attempt {len(self.pods)}: {pod_state(self.newest)}"


@dataclass
class JobWatch:
    """One Job, watched until its end; a pod may take ``start_s`` to start.

    ``on_line`` is called with each line of the log as it is written, with some lines twice.
    """

    cluster: Cluster
    name: str
    start_s: float
    on_line: Callable[[str], None]
    on_change: OnChange | None
    container: str = CONTAINER
    again: str = "repeat the same command: the upload resumes"
    limit: str = "raise upload_timeout_s"
    _begun: float = field(default_factory=time.monotonic)
    _started: bool = False

    def wait(self, *, deadline_s: float) -> list[str]:
        """Wait for the end; return the logs of the pods that succeeded, the newest last.

        Raises:
            NotReady: the Job failed, or cannot start.
            WaitTimeout: no pod started in time.
            QwenkitError: the error that the program printed.
        """
        done = wait(
            self._look,
            what=f"job {self.name} complete",
            ready=lambda seen: is_true(seen.job, "Complete"),
            describe=str,
            failed=self._failed,
            timeout_s=deadline_s + _MARGIN_S,
            on_change=self.on_change,
        )
        good = [pod for pod in done.value.pods if pod["status"].get("phase") == "Succeeded"]
        return [self._log(pod) for pod in good]

    def _look(self) -> _JobState:
        seen = self._read()
        if seen.newest is None or not _runs(seen.newest):
            return seen
        self._started = True
        # If the connection breaks, the next poll follows the log again.
        with suppress(Unreachable, NotFound, Rejected):
            for line in self.cluster.follow(name_of(seen.newest), container=self.container):
                self.on_line(line)
        return self._read()

    def _read(self) -> _JobState:
        job = self.cluster.find(JOB, self.name)
        if job is None:
            raise NotReady(f"job {self.name} is gone", "it was deleted", "repeat the same command")
        pods = self.cluster.list(POD, labels={JOB_LABEL: self.name})
        return _JobState(job, tuple(sorted(pods, key=_age_order)))

    def _failed(self, seen: _JobState) -> QwenkitError | None:
        ended, pod = condition(seen.job, "Failed"), seen.newest
        text, code = "", None
        for broken in seen.broken:
            text, code = self._log(broken), _exit_code(broken)
            error = read_error(text)
            if error is not None and (ended or isinstance(error, _PERMANENT)):
                return error
        if not (seen.broken or ended or self._started or (pod is not None and _runs(pod))):
            return self._not_started(seen)
        return self._why(ended, code, text) if ended or code in _CANNOT_RUN else None

    def _why(self, ended: Obj, code: int | None, text: str) -> NotReady:
        reasons = [f"{ended.get('reason')}: {ended.get('message')}"] if ended else []
        reasons += [] if code is None else [f"its container ended with exit code {code}"]
        reasons += [line for line in text.splitlines() if line.strip()][-_SHOWN_LINES:]
        fix = self.again
        if code in _CANNOT_RUN:
            fix = "the image must contain qwenkit: build it with the project's Dockerfile"
        elif ended.get("reason") == "DeadlineExceeded":
            fix = f"{self.limit}; {fix}"
        why, *evidence = reasons or [""]
        return NotReady(f"job {self.name} failed", why, fix, evidence=evidence)

    def _not_started(self, seen: _JobState) -> QwenkitError | None:
        """Return why no pod starts, if the cause is permanent or the wait too long."""
        late = time.monotonic() - self._begun > self.start_s
        found = self._explain(seen)
        if found is not None and found.permanent:
            return found.error(f"job {self.name} cannot start")
        if not late:
            return None
        what = f"job {self.name}: no pod started within {self.start_s:g} s"
        return (
            found.error(what, WaitTimeout)
            if found
            else WaitTimeout(
                what,
                str(seen),
                f"kubectl describe job {self.name} shows its events; has a node room for the pod?",
            )
        )

    def _explain(self, seen: _JobState) -> Explanation | None:
        found = first_cause(collect_job(self.cluster, seen.job, seen.pods[-1:]))
        if found is None or found.kind != IMAGE.kind:
            return found
        fix = (
            "build it with the project's Dockerfile, push it where the nodes can pull it, and "
            "set transfer_image to its name"
        )
        return replace(found, fix=fix)

    def _log(self, pod: Obj) -> str:
        with suppress(NotFound, Rejected):
            return self.cluster.logs(name_of(pod), container=self.container, lines=_LOG_LINES)
        return ""


def _age_order(pod: Obj) -> tuple[str, bool]:
    # Of two pods of the same second, the one that has not ended is the newer.
    ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return str(pod["metadata"].get("creationTimestamp")), not ended


def _runs(pod: Obj) -> bool:
    return any("running" in (status.get("state") or {}) for status in containers(pod))


def _exit_code(pod: Obj) -> int | None:
    ended = [(status.get("state") or {}).get("terminated") or {} for status in containers(pod)]
    return next((int(one["exitCode"]) for one in ended if "exitCode" in one), None)
