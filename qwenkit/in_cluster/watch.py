"""Watch a Job to its end: pass on what its pods write, and say why it fails or cannot start."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.causes import first_cause
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.snapshot import collect_job
from qwenkit.cluster.diagnosis.waiting_reasons import IMAGE
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

# A later attempt would meet the same; anything else may pass.
_LASTING = (Conflict, Forbidden, InvalidValue, NotFound, Rejected)
_CANNOT_RUN = (126, 127, 128)
_LOG_LINES = 10_000
_LAST_WORDS = 6
_MARGIN_S = 60.0


@dataclass(frozen=True)
class Hooks:
    """What the caller knows of the program that the Job runs.

    Attributes:
        on_line: gets each line of the log while it is written; some come twice.
        error: reads the error in the log of a failed attempt, None if there is none.
        on_change: called at each transition.
    """

    on_line: Callable[[str], None]
    error: Callable[[str], QwenkitError | None]
    on_change: OnChange | None = None


@dataclass(frozen=True)
class _Seen:
    """A Job and its pods at one moment, the youngest last."""

    job: Obj
    pods: tuple[Obj, ...]

    @property
    def youngest(self) -> Obj | None:
        return self.pods[-1] if self.pods else None

    def __str__(self) -> str:
        name = f"job {name_of(self.job)}"
        if ended := next((kind for kind in ("Complete", "Failed") if is_true(self.job, kind)), ""):
            return f"{name}: {ended}"
        if self.youngest is None:
            return f"{name}: no pod yet"
        return f"{name}, attempt {len(self.pods)}: {pod_state(self.youngest)}"


@dataclass
class JobWatch:
    """One Job, watched until its end."""

    cluster: Cluster
    name: str
    start_s: float
    hooks: Hooks
    _begun: float = field(default_factory=time.monotonic)
    _started: bool = False

    def end(self, *, deadline_s: float) -> str:
        """Wait for the end; return the log of the pod that succeeded."""
        done = wait(
            self._look,
            what=f"job {self.name} complete",
            ready=lambda seen: is_true(seen.job, "Complete"),
            describe=str,
            failed=self._failed,
            timeout_s=deadline_s + _MARGIN_S,
            on_change=self.hooks.on_change,
        )
        good = [pod for pod in done.value.pods if pod["status"].get("phase") == "Succeeded"]
        return "".join(map(self._log, good[-1:]))

    def _look(self) -> _Seen:
        seen = self._read()
        if seen.youngest is None or not _runs(seen.youngest):
            return seen
        self._started = True
        # What breaks here is looked at, and followed, again.
        with suppress(Unreachable, NotFound, Rejected):
            for line in self.cluster.follow(name_of(seen.youngest), container=_container(seen.job)):
                self.hooks.on_line(line)
        return self._read()

    def _read(self) -> _Seen:
        job = self.cluster.find(JOB, self.name)
        if job is None:
            raise NotReady(
                f"job {self.name} is gone", "somebody deleted it", "repeat the same command"
            )
        pods = self.cluster.list(POD, labels={JOB_LABEL: self.name})
        uid = job["metadata"]["uid"]
        own = [pod for pod in pods if _owner(pod) == uid]
        return _Seen(job, tuple(sorted(own, key=_birth)))

    def _failed(self, seen: _Seen) -> QwenkitError | None:
        ended = condition(seen.job, "Failed")
        pod = seen.youngest
        if pod is not None and pod["status"].get("phase") == "Failed":
            text = self._log(pod)
            error = self.hooks.error(text)
            if error is not None and (ended or isinstance(error, _LASTING)):
                return error
            code = _exit_code(pod)
            if ended or code in _CANNOT_RUN:
                return self._why(ended, code, text)
        elif ended:
            return self._why(ended, None, "")
        elif not self._started and (pod is None or not _runs(pod)):
            return self._not_started(seen)
        return None

    def _why(self, ended: Obj, code: int | None, text: str) -> NotReady:
        said = [f"{ended.get('reason')}: {ended.get('message')}"] if ended else []
        said += [] if code is None else [f"its container ended with exit code {code}"]
        said += [line for line in text.splitlines() if line.strip()][-_LAST_WORDS:]
        fix = "repeat the same command: it goes on where it was"
        if code in _CANNOT_RUN:
            fix = "the image must hold the program: build it with the project's Dockerfile"
        elif ended.get("reason") == "DeadlineExceeded":
            fix = f"raise upload_timeout_s; {fix}"
        why, *evidence = said or [""]
        return NotReady(f"job {self.name} failed", why, fix, evidence=evidence)

    def _not_started(self, seen: _Seen) -> QwenkitError | None:
        """Return why no pod starts, if that lasts or has lasted too long."""
        late = time.monotonic() - self._begun > self.start_s
        found = self._explain(seen)
        if found is not None and found.permanent:
            return found.error(f"job {self.name} cannot start")
        if not late:
            return None
        what = f"job {self.name}: no pod started within {self.start_s:g} s"
        return found.error(what, WaitTimeout) if found else WaitTimeout(what, str(seen))

    def _explain(self, seen: _Seen) -> Explanation | None:
        found = first_cause(collect_job(self.cluster, seen.job, seen.pods[-1:]))
        if found is None or found.code != IMAGE.code:
            return found
        fix = (
            "build it with the project's Dockerfile, push it where the nodes can pull it, and "
            "set transfer_image to its name"
        )
        return replace(found, fix=fix)

    def _log(self, pod: Obj) -> str:
        container = pod["spec"]["containers"][0]["name"]
        with suppress(NotFound, Rejected):
            return self.cluster.logs(name_of(pod), container=container, lines=_LOG_LINES)
        return ""


def _container(job: Obj) -> str:
    return str(job["spec"]["template"]["spec"]["containers"][0]["name"])


def _owner(pod: Obj) -> str:
    owners = pod["metadata"].get("ownerReferences") or [{}]
    return str(owners[0].get("uid"))


def _birth(pod: Obj) -> tuple[str, bool]:
    # Within a second, the one that has not ended is the younger.
    ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return str(pod["metadata"].get("creationTimestamp")), not ended


def _runs(pod: Obj) -> bool:
    return any("running" in (status.get("state") or {}) for status in containers(pod))


def _exit_code(pod: Obj) -> int | None:
    ended = [(status.get("state") or {}).get("terminated") or {} for status in containers(pod)]
    return next((int(one["exitCode"]) for one in ended if "exitCode" in one), None)
