"""Read the Job's log: lines of JSON with progress, then a report or an error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from qwenkit import errors
from qwenkit.errors import QwenkitError, TransferError
from qwenkit.untrusted.parsing import parse_json
from qwenkit.weights.progress import Progress
from qwenkit.weights.report import FileProblem, FileReport, UploadReport, VerifyReport

Report = TypeVar("Report", UploadReport, VerifyReport)


def read_progress(line: str) -> Progress | None:
    """Return the progress in a line of the log, None if there is none."""
    state = _parsed(line).get("progress")
    try:
        return Progress(**state) if isinstance(state, dict) else None
    except TypeError:  # from another version of qwenkit
        return None


def read_report(log: str, target: str) -> UploadReport:
    """Return the report of the upload to ``target``.

    Raises:
        TransferError: the log has no report.
    """

    def read(answer: dict[str, Any]) -> UploadReport:
        files = tuple(FileReport(**file) for file in answer["files"])
        return UploadReport(**answer | {"files": files, "notes": tuple(answer["notes"])})

    return _last(log, "bytes_sent", target, read)


def read_verified(log: str, target: str) -> VerifyReport:
    """Return the report of the verification of ``target``.

    Raises:
        TransferError: the log has no report.
    """

    def read(answer: dict[str, Any]) -> VerifyReport:
        problems = tuple(FileProblem(**one) for one in answer["problems"])
        lists = {name: tuple(answer[name]) for name in ("extra", "notes")}
        lists["stored"] = tuple(map(tuple, answer["stored"]))
        return VerifyReport(**answer | lists | {"problems": problems, "url": target})

    return _last(log, "problems", target, read)


def _last(log: str, field: str, target: str, read: Callable[[dict[str, Any]], Report]) -> Report:
    """Read the log's last answer that has a field."""
    for answer in map(_parsed, reversed(log.splitlines())):
        if field in answer:
            with suppress(KeyError, TypeError):
                return read(answer)
    raise TransferError(
        f"the Job of {target} has ended well, but its log has no report",
        "the image holds another version of qwenkit, or the log was cut",
        f"qwenkit verify {target} shows the result",
    )


def read_error(log: str) -> QwenkitError | None:
    """Return the error that the upload printed, in its own class; None if there is none."""
    for line in reversed(log.splitlines()):
        answer = _parsed(line)
        found = getattr(errors, str(answer.pop("error", "")), None)
        if isinstance(found, type) and issubclass(found, QwenkitError):
            error = found.__new__(found)
            what, why, fix = (str(answer.pop(part, "")) for part in ("what", "why", "fix"))
            QwenkitError.__init__(error, what, why, fix, **answer)
            return error
    return None


def _parsed(line: str) -> dict[str, Any]:
    try:
        answer = parse_json(line) if line.startswith("{") else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
