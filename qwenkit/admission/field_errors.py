"""The API server's errors about fields: Kubernetes' ``field.Error``.

The errors of Knative's webhooks, which are worded differently, are in ``faults``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """A broken rule: an entry of ``details.causes`` in the ``Status`` of a refusal."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


Errors = Iterator[FieldError]


def joined(errors: Sequence[object]) -> str:
    """Return the errors as one message lists them: each once, in brackets if there are several."""
    listed = list(dict.fromkeys(map(str, errors)))
    return listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"


def required(field: str, detail: str = "") -> FieldError:
    """A required field is absent."""
    message = f"Required value: {detail}" if detail else "Required value"
    return FieldError("FieldValueRequired", field, message)


def invalid(field: str, value: object, rule: str) -> FieldError:
    """A value breaks a rule; strings are shown in quotes."""
    return invalid_as(field, json.dumps(value, ensure_ascii=False), rule)


def invalid_as(field: str, shown: str, rule: str) -> FieldError:
    """A value breaks a rule; ``shown`` is how Go prints it."""
    return FieldError("FieldValueInvalid", field, f"Invalid value: {shown}: {rule}")


def broken(field: str, value: str, rules: Sequence[str]) -> list[FieldError]:
    """Return one error for each rule that a value breaks, e.g. of ``names``."""
    return [invalid(field, value, rule) for rule in rules]


def unsupported(field: str, value: object, supported: Collection[str]) -> FieldError:
    """A value is not one of the supported ones."""
    listed = ", ".join(f'"{one}"' for one in sorted(supported))
    message = f'Unsupported value: "{value}": supported values: {listed}'
    return FieldError("FieldValueNotSupported", field, message)


def duplicate(field: str, value: str) -> FieldError:
    """A value occurs twice in a list whose items must differ."""
    return FieldError("FieldValueDuplicate", field, f'Duplicate value: "{value}"')


def not_found(field: str, value: str) -> FieldError:
    """A value names something that does not exist."""
    return FieldError("FieldValueNotFound", field, f'Not found: "{value}"')


def forbidden(field: str, detail: str) -> FieldError:
    """A value is not allowed here, or may not change."""
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")
