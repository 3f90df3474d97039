"""Why a container ended: its state, the last error in its log, and its exit code."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from signal import Signals

from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.last_words import last_errors, last_lines
from qwenkit.cluster.diagnosis.signatures import of_exit_code, recognise
from qwenkit.cluster.diagnosis.snapshot import Snapshot
from qwenkit.cluster.kinds import Obj, is_true, name_of
from qwenkit.cluster.pods import containers

# Waiting ends at the second restart: the first crash may be a mount that came late.
CRASH_BUDGET = 2
_SHOWN_LINES, _SHOWN_CHARS = 6, 500


def crash(snapshot: Snapshot) -> Explanation | None:
    """Explain a container that ended with an error, None if there is none."""
    for pod in snapshot.living():
        for status in containers(pod):
            now, before = status.get("state") or {}, status.get("lastState") or {}
            ended = now.get("terminated") or before.get("terminated") or {}
            if not is_true(pod, "Ready") and int(ended.get("exitCode") or 0) != 0:
                return _explain(snapshot, pod, status, ended)
    return None


def _explain(snapshot: Snapshot, pod: Obj, status: Obj, ended: Obj) -> Explanation:
    name, restarts = str(status.get("name")), int(status.get("restartCount") or 0)
    log = snapshot.log(pod, name, ended=True)
    message = str(ended.get("message") or "")
    text = log if message.strip() in log else f"{log}\n{message}"
    probes = [said for said in snapshot.messages("Killing") if "liveness probe" in said]
    if ended.get("reason") == "OOMKilled":
        cause = "it was killed: it used more than memory_limit"
        found = Explanation("oom", cause, fix="raise memory_limit", permanent=False)
    elif ended.get("reason") == "ContainerStatusUnknown":
        cause = "its node lost it: the node or its kubelet restarted"
        fix = "it starts anew; if it goes on, kubectl describe node: replace the node"
        found = Explanation("node-lost", cause, fix=fix, permanent=False)
    else:
        found = last_words_say(text, int(ended["exitCode"]), probes) or _unknown(
            text, name_of(pod), name
        )
    cause = f"the container {name} exits with code {_named(int(ended['exitCode']))}: {found.cause}"
    last = [line for line in text.splitlines() if line.strip(" ^") and not line.endswith("^^")]
    last = last[-_SHOWN_LINES:]
    decide = [i for i, line in enumerate(last) if any(one in line for one in found.evidence[:1])]
    if decide and found.kind != "unknown":
        last = last[decide[-1] + 1 :]  # what leads to a known error says nothing more
    elif decide:
        del last[decide[-1]]
    shown = [*found.evidence, f"restarted {restarts} times", *last]
    permanent = found.permanent or restarts >= CRASH_BUDGET
    return replace(found, cause=cause, permanent=permanent).shown_by(
        *(line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}…" for line in shown)
    )


def last_words_say(text: str, code: int, probes: list[str]) -> Explanation | None:
    """Return what log, events and exit code say; what they do not say is not guessed."""
    own, pointing = last_errors(text)
    known = recognise(own or pointing or last_lines(text))
    if known or own:
        return known
    if probes:
        return Explanation(
            "liveness",
            "the kubelet stopped it, because its liveness probe failed",
            (probes[0],),
            "leave the liveness probe out, or give it more time than the model takes to load; "
            "the readiness probe is enough",
            permanent=False,
        )
    return of_exit_code(code)


def _unknown(text: str, pod: str, container: str) -> Explanation:
    own, pointing = last_errors(text)
    return Explanation(
        "unknown",
        "no known error is in its last lines" if text.strip() else "its log is empty or not here",
        tuple(error.partition("\n")[0] for error in (own or pointing)[:1]),
        f"read the whole log: kubectl logs {pod} -c {container} --previous",
        permanent=False,
    )


def _named(code: int) -> str:
    """Return an exit code, with the signal's name if a signal ended the program."""
    with suppress(ValueError):
        return f"{code} ({Signals(code - 128).name})"
    return str(code)
