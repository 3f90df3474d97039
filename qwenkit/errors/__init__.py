"""Every error that qwenkit raises on purpose.

    QwenkitError                 what happened, why, and what to do about it
    ├── InvalidValue             one value breaks one rule            (exit code 2)
    │   ├── SettingsError        the same, for a parameter: names the layer it came from
    │   └── ConsentNeeded        a person must agree first: --yes is missing
    ├── PreflightError           a prerequisite of the chosen target is missing
    ├── Unreachable              nothing answers at an address
    ├── NotFound                 the object, bucket, file or context does not exist
    ├── Forbidden                the credentials are wrong or may not do this
    ├── Conflict                 it exists and is not ours, or somebody else changed it
    ├── Rejected                 admission or validation refused the object
    ├── NotReady                 it will not become ready; the condition shows why
    ├── WaitTimeout              the deadline passed; carries the last state seen
    ├── TransferError            bytes did not arrive as they were sent
    └── SandboxError             the embedded sandbox cannot start, stop or answer

The library raises; only the command line prints. No message holds a secret: each error scrubs
its texts, and the exceptions of other libraries that led to it.
"""

from __future__ import annotations

import reprlib
import sys
from typing import Any

from qwenkit.errors.scrubbing import scrub, scrub_chain, scrubbed
from qwenkit.language import said


class _Short(reprlib.Repr):
    """Shows a value, which may be as long as a file, in some hundred characters."""

    def repr_int(self, x: int, level: int) -> str:
        """Name the size of an integer that Python refuses to print."""
        bits = x.bit_length()
        return super().repr_int(x, level) if bits < 14_000 else f"<an integer of {bits} bits>"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 400


class QwenkitError(Exception):
    """Base of every error of qwenkit.

    Args:
        what: what failed, naming the object and the value; one sentence.
        why: the cause: an API server's message, a rule.
        fix: what to do next; a command where one helps.
        context: facts for programs (``kind``, ``name``, ``status``, ``request_id`` ...);
            ``evidence`` is a sequence of lines that show the cause.
    """

    exit_code = 1

    def __init__(self, what: str, why: str = "", fix: str = "", **context: Any) -> None:
        scrub_chain(sys.exc_info()[1])
        self.what, self.why, self.fix = scrub(what), scrub(why), scrub(fix)
        super().__init__(self.what)
        self.context: dict[str, Any] = scrubbed(context)

    def __str__(self) -> str:
        """Lay the error out for a terminal: what, why, one line of evidence each, fix."""
        why = [said(line) for line in (self.why, *self.context.get("evidence", ())) if line]
        notes = (("why:", "\n       ".join(why)), ("fix:", said(self.fix)))
        lines = [f"  {said(label)} {text}" for label, text in notes if text]
        return scrub("\n".join([said(self.what), *lines]).replace("： ", "："))

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON-ready values, for ``--json`` and reports."""
        texts = {"what": self.what, "why": self.why, "fix": self.fix, **self.context}
        shown: dict[str, Any] = scrubbed(texts)
        return {"error": type(self).__name__} | shown


class InvalidValue(QwenkitError):
    """A value breaks a rule. ``name``, ``value`` and ``rule`` are attributes.

    Most rules say what is right, such as "at least 1"; then the fix is to keep to it.
    """

    exit_code = 2

    def __init__(self, name: str, value: object, rule: str, fix: str = "") -> None:
        # Before it is cut, which could leave a part of a secret.
        name, value = scrub(name), scrubbed(value)
        shown = scrub(_SHORT.repr(value))
        super().__init__(
            f"{name}: {shown} is not valid", rule, fix or f"change {name} as the rule says"
        )
        self.name, self.value, self.rule = name, value, self.why
        self.context = {"name": name, "value": shown, "rule": self.why}


class SettingsError(InvalidValue):
    """A parameter is unknown, mistyped, missing or out of range."""


class ConsentNeeded(InvalidValue):
    """A person must agree first, and there is no terminal to ask at; ``--yes`` agrees."""

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__("yes", False, why, fix)
        self.what = what


class PreflightError(QwenkitError):
    """A prerequisite of the chosen target is missing."""


class Unreachable(QwenkitError):
    """Nothing answers at an address."""


class NotFound(QwenkitError):
    """The object, bucket, file or context does not exist."""


class Forbidden(QwenkitError):
    """The credentials are wrong or lack the right to do this."""


class Conflict(QwenkitError):
    """The object exists and is not ours, or somebody changed it meanwhile."""


class Rejected(QwenkitError):
    """Admission or validation refused the object."""


class NotReady(QwenkitError):
    """The object reported a failure that waiting does not resolve."""


class WaitTimeout(QwenkitError):
    """A deadline passed. ``context`` holds the last state and the transitions."""


class TransferError(QwenkitError):
    """Bytes did not arrive as they were sent, or stopped arriving."""


class SandboxError(QwenkitError):
    """The embedded sandbox cannot start, stop or answer."""
