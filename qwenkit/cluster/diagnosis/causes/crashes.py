"""Why a container ended: its state, the last error in its log, and its exit code."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from signal import Signals

from qwenkit.cluster.diagnosis.causes.containers import SeenContainer, states_of
from qwenkit.cluster.diagnosis.explanation import CRASH_BUDGET, Explanation
from qwenkit.cluster.diagnosis.last_words import last_errors, last_lines
from qwenkit.cluster.diagnosis.signatures import SIGNATURES, first_known, of_exit
from qwenkit.cluster.diagnosis.snapshot import Snapshot
from qwenkit.cluster.kinds import name_of

_SHOWN_LINES, _SHOWN_CHARS = 6, 500


def crash(snapshot: Snapshot) -> Explanation | None:
    """Explain a container that ended with an error, None if there is none."""
    failed = (each for each in states_of(snapshot, "own") if each.ended.get("exitCode"))
    return next((_explain(snapshot, each) for each in failed), None)


def _explain(snapshot: Snapshot, each: SeenContainer) -> Explanation:
    log, code = snapshot.log(each.pod, each.name, ended=True), int(each.ended["exitCode"])
    message = str(each.ended.get("message") or "")
    text = log if message.strip() in log else f"{log}\n{message}"
    found = of_exit(each.ended.get("reason")) or last_words_say(text, code) or _unknown(text, each)
    cause = f"{each.label} exits with code {_named(code)}: {found.cause}"
    last = [line for line in text.splitlines() if line.strip(" ^") and not line.endswith("^^")]
    last = last[-_SHOWN_LINES:]
    decide = [i for i, line in enumerate(last) if any(one in line for one in found.evidence[:1])]
    if decide and found.kind != "unknown":
        last = last[decide[-1] + 1 :]  # what leads to a known error says nothing more
    elif decide:
        del last[decide[-1]]
    shown = [*found.evidence, each.restarted, *last]
    permanent = found.permanent or each.restarts >= CRASH_BUDGET
    return replace(found, cause=cause, permanent=permanent).shown_by(
        *(line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}…" for line in shown)
    )


def last_words_say(text: str, code: int = 0) -> Explanation | None:
    """Return what log and exit code say; what they do not say is not guessed."""
    own, pointing = last_errors(text)
    known = first_known(SIGNATURES, own or pointing or last_lines(text))
    return known if known or own else of_exit(code)


def _unknown(text: str, each: SeenContainer) -> Explanation:
    own, pointing = last_errors(text)
    return Explanation(
        "unknown",
        "no known error is in its last lines" if text.strip() else "its log is empty or not here",
        tuple(error.partition("\n")[0] for error in (own or pointing)[:1]),
        f"read the whole log: kubectl logs {name_of(each.pod)} -c {each.name} --previous",
        permanent=False,
    )


def _named(code: int) -> str:
    """Return an exit code, with the signal's name if a signal ended the program."""
    with suppress(ValueError):
        return f"{code} ({Signals(code - 128).name})"
    return str(code)
