"""Recorded arrivals as text, read into open-loop traffic, in whichever form they are written.

Read are CSV (``,``, ``;`` or tab, with or without a header, ``#`` begins a comment) and JSON lines.
Without a header the columns are seconds, prompt tokens, answer tokens. With one, and in JSON, they
are found by name: those of the traces of Azure's LLM inference (``TIMESTAMP``, ``ContextTokens``,
``GeneratedTokens``), BurstGPT (``Timestamp``, ``Request tokens``, ``Response tokens``) and Mooncake
(``timestamp`` in milliseconds, ``input_length``, ``output_length``) among others; the rest is
skipped. A time is a number of seconds or a date; it counts from the earliest one. No tokens count
as one: of a request that failed (BurstGPT writes an answer of 0) the prompt was read all the same.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from qwenkit.capacity.simulation.traffic import (
    MAX_REQUESTS,
    MOST_TOKENS,
    Arrival,
    Lengths,
    OpenLoop,
)
from qwenkit.errors import InvalidValue

# The words of a column's name that say what it holds, and those of a name that says otherwise.
_TIME = {"time", "timestamp", "seconds", "second", "arrival", "arrived", "at", "t", "ts", "date"}
_PROMPT = {"prompt", "input", "in", "context", "request", "prefill", "query"}
_ANSWER = {"answer", "output", "out", "generated", "response", "completion", "decode", "reply"}
_OTHER = {"id", "ids", "total", "model", "type", "hash"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_VALUE = re.compile(r"\s*([-+.]?\d|(nan|inf)\b)", re.IGNORECASE)  # what no header has in a cell
_MILLISECONDS = {"ms", "millis", "milliseconds"}
# A number as large counts milli-, micro- or nanoseconds since 1970.
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
_FIX = "correct the line, or make it a comment with #"


@dataclass(frozen=True, slots=True)
class RecordedTraffic:
    """The requests of a trace; ``notes`` says what differs from what was recorded."""

    load: OpenLoop
    notes: tuple[str, ...]


class _Columns(NamedTuple):
    """Where time, prompt and answer stand, None for nowhere; their names; units in a second."""

    places: Sequence[Any]
    names: Sequence[str]
    unit: float = 1.0


_Row = tuple[int, Sequence[Any], _Columns]  # number of the line, its three values


def read_trace(text: str, *, lengths: Lengths | None = None) -> RecordedTraffic:
    """Read a trace. ``lengths`` counts where it names no tokens.

    Raises:
        InvalidValue: names the line and the column, what belongs there, and the fix.
    """
    lengths = lengths or Lengths()
    usual = (lengths.prompt_tokens, lengths.output_tokens)
    text = text.removeprefix("\ufeff")
    found: list[Arrival] = []
    zeros = missing = 0
    for row in _json_rows(text) if text.lstrip().startswith("{") else _csv_rows(text):
        prompt, answer = _tokens(row, 1), _tokens(row, 2)
        zeros += prompt == 0 or answer == 0
        missing += prompt is None or answer is None
        prompt = usual[0] if prompt is None else prompt or 1
        answer = usual[1] if answer is None else answer or 1
        found.append(Arrival(_seconds(row), prompt, answer))
        if len(found) > MAX_REQUESTS:
            raise InvalidValue("trace", f"line {row[0]}", f"at most {MAX_REQUESTS:,} requests")
    if not found:
        rule = "a line for each request: seconds[,prompt tokens,answer tokens], or a JSON object"
        raise InvalidValue("trace", "no requests", rule)
    found.sort()
    unit = next((unit for least, unit in _UNITS if found[-1].at >= least), 1.0)
    first = found[0].at
    load = OpenLoop(tuple(Arrival((at - first) / unit, *rest) for at, *rest in found))
    notes = [f"{missing} without token counts: {usual[0]} in, {usual[1]} out"] * bool(missing)
    notes += [f"{zeros} with 0 tokens, which count as 1"] * bool(zeros)
    return RecordedTraffic(load, tuple(notes))


def _csv_rows(text: str) -> Iterator[_Row]:
    kept = ["\n" if line.lstrip().startswith("#") else line for line in _lines(text)]
    head = next((line for line in kept if line.strip()), "")
    mark = max("\t;,", key=head.count)
    reader = csv.reader(kept, delimiter=mark)
    columns = None
    try:
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            if mark == ";":
                cells = [cell.replace(",", ".") for cell in cells]  # decimal commas
            if columns is None:
                columns = _Columns((0, 1, 2), ("column 1", "column 2", "column 3"))
                if not any(map(_VALUE.match, cells)):
                    columns = _named(cells, range(len(cells)))
                    continue
            there = len(cells)
            values = [
                None if place is None or place >= there else cells[place].strip()
                for place in columns.places
            ]
            yield reader.line_num, values, columns
    except csv.Error as error:
        raise _refusal(reader.line_num, "", str(error), "cells of text") from None


def _json_rows(text: str) -> Iterator[_Row]:
    for number, line in enumerate(_lines(text), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entry = None
        with suppress(ValueError, RecursionError):
            entry = json.loads(line)
        if not isinstance(entry, dict):
            raise _refusal(number, "", line.strip(), "one JSON object")
        columns = _named(list(entry), list(entry))
        yield number, [entry.get(key) for key in columns.places], columns


def _lines(text: str) -> io.StringIO:
    return io.StringIO(text, newline=None)  # \r\n and \r end a line too


def _named(header: Sequence[str], places: Sequence[Any]) -> _Columns:
    """Find the columns by their names; where no name is known, they stand in order."""
    words = [{word.lower() for word in _WORDS.findall(name)} for name in header]
    found: list[int | None] = []
    for known in (_TIME, _PROMPT, _ANSWER):
        barred = _OTHER if known is _TIME else _OTHER | _TIME
        fits = (n for n, each in enumerate(words) if each & known and not each & barred)
        found.append(next(fits, None))
    if found == [None] * 3 and isinstance(places, range):
        found = [n if n < len(header) else None for n in range(3)]
    at = found[0]
    if at is None:
        rule = "one of the names is that of the time, such as timestamp"
        raise InvalidValue("trace header", ",".join(header), rule, "name the column of the time")
    mooncake = "input_length" in header
    return _Columns(
        [None if n is None else places[n] for n in found],
        ["" if n is None else f"column {n + 1} ({header[n].strip()})" for n in found],
        1e3 if mooncake or words[at] & _MILLISECONDS else 1.0,
    )


def _seconds(row: _Row) -> float:
    """Return a time in seconds since the trace's own zero, or since 1970."""
    number, (value, *_), columns = row
    found = _number(value)
    if found is not None:
        found /= columns.unit
    elif isinstance(value, str):
        found = _date(value)
    if found is None or not 0 <= found < math.inf:
        rule = "a number of seconds of at least 0, or a date such as 2026-11-27 10:00:00"
        raise _refusal(number, columns.names[0], value, rule)
    return found


def _tokens(row: _Row, which: int) -> int | None:
    number, values, columns = row
    value = values[which]
    if value is None or value == "":
        return None
    found = _number(value)
    if found is None or not 0 <= found <= MOST_TOKENS or found != int(found):
        what = ("prompt", "answer")[which - 1]
        rule = f"tokens of the {what}: a whole number, 0 to {MOST_TOKENS:,}"
        raise _refusal(number, columns.names[which], value, rule)
    return int(found)


def _number(value: Any) -> float | None:
    try:
        return None if value is True or value is False else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _date(text: str) -> float | None:
    with suppress(ValueError, OverflowError):
        date = datetime.fromisoformat(text.strip().replace("/", "-"))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return None


def _refusal(number: int, column: str, value: Any, rule: str) -> InvalidValue:
    where = f"trace line {number}" + (f", {column}" if column else "")
    return InvalidValue(where, value, rule, _FIX)
