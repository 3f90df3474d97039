"""How is one annotation parsed: both spellings, Go's grammar, ranges; errors name the key."""

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
    """Looks up one annotation by its kebab key and parses it, naming it in every error."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self._annotations = annotations

    def text(self, key: str) -> tuple[str, str] | None:
        """Return (full key, value); the kebab-case spelling wins."""
        found = find_annotation(self._annotations, key)
        if found is not None and not isinstance(found[1], str):
            raise InvalidValue(*found, "annotation values are strings", "quote it")
        return found

    def _parse(self, key: str, parse: Callable[[str], T]) -> T | None:
        found = self.text(key)
        return None if found is None else _parsed(*found, parse)

    def number(self, key: str, least: float = -math.inf, most: float = math.inf) -> float | None:
        """Parse a float and check its range."""
        value = self._parse(key, parse_float)
        if value is None:
            return None
        name, text = self._found(key)
        if not math.isfinite(value):
            raise InvalidValue(name, text, "must be finite: NaN and infinities are refused")
        if not least <= value <= most:
            rule = f"at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"
            raise InvalidValue(name, text, rule)
        return value

    def count(self, key: str, least: int = 0) -> int | None:
        """Parse a 32-bit integer and check its lower bound."""
        value = self._parse(key, parse_int)
        if value is not None and value < least:
            raise InvalidValue(*self._found(key), f"a whole number of at least {least}")
        return value

    def duration(self, key: str, least_ns: int, *, whole: bool = False) -> int | None:
        """Parse a duration of at most an hour into nanoseconds."""
        value = self._parse(key, parse_duration_ns)
        if value is None:
            return None
        if not least_ns <= value <= _HOUR_NS:
            raise InvalidValue(*self._found(key), f"{least_ns // SECOND_NS}s to 1h")
        if whole and value % SECOND_NS:
            raise InvalidValue(*self._found(key), "whole seconds only")
        return value

    def progress_deadline(self) -> int | None:
        """Parse ``serving.knative.dev/progress-deadline`` into nanoseconds."""
        text = self._annotations.get(PROGRESS_DEADLINE)
        if text is None:
            return None
        value = _parsed(PROGRESS_DEADLINE, text, parse_duration_ns)
        if value < 0 or value % SECOND_NS:
            raise InvalidValue(PROGRESS_DEADLINE, text, "whole seconds, not negative")
        return value

    def _found(self, key: str) -> tuple[str, str]:
        return self.text(key) or (PREFIX + key, "")


def _parsed(name: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidValue(name, text, f"as Go parses it, {error}") from error
