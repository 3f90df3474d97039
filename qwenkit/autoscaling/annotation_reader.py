"""Parse one annotation: both spellings, Go's grammar, ranges; errors name the key."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from qwenkit.autoscaling.annotation_keys import PREFIX, PROGRESS_DEADLINE, find_annotation
from qwenkit.autoscaling.golang import parse_duration_ns, parse_float, parse_int
from qwenkit.errors import InvalidValue

SECOND_NS = 1_000_000_000
_HOUR_NS = 3600 * SECOND_NS
T = TypeVar("T")


class AnnotationReader:
    """Parses annotations by their kebab-case keys; each method returns None for an absent one."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self._annotations = annotations

    def text(self, key: str) -> tuple[str, str] | None:
        """Return (full key, value); the kebab-case spelling wins."""
        found = find_annotation(self._annotations, key)
        if found is not None and not isinstance(found[1], str):
            raise InvalidValue(*found, "annotation values are strings", "quote it")
        return found

    def number(self, key: str, least: float = -math.inf, most: float = math.inf) -> float | None:
        """Parse a float and check its range."""

        def broken_rule(value: float) -> str:
            if not math.isfinite(value):
                return "must be finite: NaN and infinities are refused"
            if least <= value <= most:
                return ""
            return f"at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"

        return _parsed(self.text(key), parse_float, broken_rule)

    def count(self, key: str, least: int = 0) -> int | None:
        """Parse a 32-bit integer and check its lower bound."""
        rule = f"a whole number of at least {least}"
        return _parsed(self.text(key), parse_int, lambda value: rule if value < least else "")

    def duration(self, key: str, least_ns: int, *, whole: bool = False) -> int | None:
        """Parse a duration of at most an hour into nanoseconds."""

        def broken_rule(value: int) -> str:
            if not least_ns <= value <= _HOUR_NS:
                return f"{least_ns // SECOND_NS}s to 1h"
            return "whole seconds only" if whole and value % SECOND_NS else ""

        return _parsed(self.text(key), parse_duration_ns, broken_rule)

    def progress_deadline(self) -> int | None:
        """Parse ``serving.knative.dev/progress-deadline`` into nanoseconds."""
        text = self._annotations.get(PROGRESS_DEADLINE)
        rule = "whole seconds, not negative"
        return _parsed(
            None if text is None else (PROGRESS_DEADLINE, text),
            parse_duration_ns,
            lambda value: rule if value < 0 or value % SECOND_NS else "",
        )

    def refusal(self, key: str, rule: str) -> InvalidValue:
        """Return the error for an annotation that breaks a rule."""
        return InvalidValue(*(self.text(key) or (PREFIX + key, "")), rule)


def _parsed(
    found: tuple[str, str] | None, parse: Callable[[str], T], broken_rule: Callable[[T], str]
) -> T | None:
    if found is None:
        return None
    try:
        value = parse(found[1])
    except ValueError as error:
        raise InvalidValue(*found, f"as Go parses it, {error}") from error
    if rule := broken_rule(value):
        raise InvalidValue(*found, rule)
    return value
