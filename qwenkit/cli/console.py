"""What a terminal shows: an answer as text or JSON, a progress line, an error."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeAlias, TypeVar

import typer

from qwenkit.errors import QwenkitError
from qwenkit.language import said

LINE_EVERY_S = 10.0
T = TypeVar("T")
Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
_CLEAR = "\r\x1b[2K"
JSON_EVERY_S = 1.0


def emit(answer: object, *, as_json: bool) -> None:
    """Print an answer: JSON for programs, its own text for people."""
    typer.echo(json.dumps(plain(answer), ensure_ascii=False) if as_json else said(text(answer)))


def plain(answer: object) -> Plain:
    """Return JSON-ready values of dataclasses, mappings and sequences of them."""
    if hasattr(answer, "to_dict"):
        return plain(answer.to_dict())
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return {f.name: plain(getattr(answer, f.name)) for f in dataclasses.fields(answer)}
    if isinstance(answer, dict):
        return {str(key): plain(value) for key, value in answer.items()}
    if isinstance(answer, list | tuple | set | frozenset):
        return [plain(value) for value in answer]
    return answer if isinstance(answer, str | int | float | bool | None) else str(answer)


def text(answer: object) -> str:
    """Return an answer as lines: its own ``str`` if it has one, else one line per field."""
    if isinstance(answer, dict):
        return "\n".join(f"{key}: {value}" for key, value in answer.items())
    if "__str__" in vars(type(answer)) or not dataclasses.is_dataclass(answer):
        return str(answer)
    fields = dataclasses.fields(answer)
    return "\n".join(f"{field.name}: {getattr(answer, field.name)}" for field in fields)


def fail(error: QwenkitError, *, as_json: bool) -> int:
    """Print an error, also as JSON if wanted; return its exit code."""
    if as_json:
        typer.echo(json.dumps(plain(error.to_dict()), ensure_ascii=False))
    typer.echo(f"{said('error:')} {error}".replace("： ", "："), err=True)
    return error.exit_code


def say(text: str, *, err: bool = False) -> None:
    """Print a text in the person's language; ``err``: to stderr."""
    typer.echo(said(text), err=err)


def agreed(question: str, *, err: bool = False) -> bool:
    """Return whether a person at the terminal says yes."""
    return typer.confirm(said(question), err=err)


def stderr_lines(*, quiet: bool) -> Callable[[object], None]:
    """Return a callback that prints a line to stderr; stdout stays for the answer."""
    return (lambda line: None) if quiet else (lambda line: tell(str(line)))


def can_ask() -> bool:
    """Return whether a person at a terminal can answer; stdin may even be closed."""
    return sys.stdin is not None and sys.stdin.isatty()


@contextmanager
def progress_line(describe: Callable[[T], str]) -> Iterator[Callable[[T], None]]:
    """Yield a progress callback: one line redrawn on a terminal, else a line every 10 s.

    On a terminal the line is cleared at the end.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()

    def show(state: T) -> None:
        # Wrapping is off: a long line is cut at the edge of the window.
        line = f"{_CLEAR}\x1b[?7l{said(describe(state))}\x1b[?7h" if terminal else describe(state)
        tell(line, nl=not terminal)

    with interruptible():
        try:
            yield throttled(show, 0.2 if terminal else LINE_EVERY_S)
        finally:
            if terminal:
                tell(_CLEAR, nl=False)


@contextmanager
def progress_json(*, wanted: bool) -> Iterator[Callable[[object], None]]:
    """Yield a progress callback that prints a line of JSON every second, if ``wanted``."""

    def show(state: object) -> None:
        typer.echo(json.dumps({"progress": plain(state)}, ensure_ascii=False))

    with interruptible():
        yield throttled(show, JSON_EVERY_S if wanted else math.inf)


def tell(text: str, *, nl: bool = True) -> None:
    """Print to stderr; if it is closed, the work that this tells of goes on without it."""
    with suppress(OSError):
        typer.echo(said(text), nl=nl, err=True)


def throttled(show: Callable[[T], None], every_s: float) -> Callable[[T], None]:
    """Return ``show``, called at once and then no more often than ``every_s``."""
    due = math.inf if math.isinf(every_s) else 0.0

    def maybe(state: T) -> None:
        nonlocal due
        if (now := time.monotonic()) >= due:
            due = now + every_s
            show(state)

    return maybe


@contextmanager
def interruptible() -> Iterator[None]:
    """On Ctrl-C print the notes of the interrupted work, such as how to resume; exit with 130."""
    try:
        yield
    except KeyboardInterrupt as error:
        tell("\n".join(["interrupted", *getattr(error, "__notes__", ())]))
        raise typer.Exit(130) from None
