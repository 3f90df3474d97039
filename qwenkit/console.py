"""What a terminal shows: an answer as text or JSON, a progress line, an error."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import typer

from qwenkit.errors import QwenkitError

LINE_EVERY_S = 10.0


def emit(answer: Any, *, as_json: bool) -> None:
    """Print an answer: JSON for programs, its own text for people."""
    typer.echo(json.dumps(plain(answer), ensure_ascii=False) if as_json else text(answer))


def plain(answer: Any) -> Any:
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


def text(answer: Any) -> str:
    """Return an answer as lines: its own words if it has some, else one line a field."""
    if isinstance(answer, dict):
        return "\n".join(f"{key}: {value}" for key, value in answer.items())
    if "__str__" in vars(type(answer)) or not dataclasses.is_dataclass(answer):
        return str(answer)
    fields = dataclasses.fields(answer)
    return "\n".join(f"{field.name}: {getattr(answer, field.name)}" for field in fields)


def fail(error: QwenkitError, *, as_json: bool) -> int:
    """Print an error, for programs too if they asked; return its exit code."""
    if as_json:
        typer.echo(json.dumps(plain(error.to_dict()), ensure_ascii=False))
    typer.echo(f"error: {error}", err=True)
    return error.exit_code


def say(*, quiet: bool) -> Callable[[Any], None]:
    """Return a callback that prints a line to stderr, where it disturbs no program."""
    return (lambda line: None) if quiet else (lambda line: typer.echo(str(line), err=True))


def progress_line(describe: Callable[[Any], str]) -> Callable[[Any], None]:
    """Return a callback for progress: one line redrawn on a terminal, else a line every 10 s."""
    terminal, last = sys.stderr.isatty(), [0.0]

    def show(state: Any) -> None:
        now = time.monotonic()
        if now - last[0] < (0.2 if terminal else LINE_EVERY_S):
            return
        last[0] = now
        typer.echo(
            f"\r\x1b[2K{describe(state)}" if terminal else describe(state),
            nl=not terminal,
            err=True,
        )

    return show
