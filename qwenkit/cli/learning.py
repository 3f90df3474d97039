"""``check``, ``answer``, ``progress`` and ``reset``: the exercises of the course."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli.console import emit, stderr_lines
from qwenkit.cli.options import Context, Json, Params, Set, read_settings

if TYPE_CHECKING:
    from qwenkit.exercises.checking import Checked

Id = Annotated[str, typer.Argument(help="An exercise, such as 02.1.")]


def check(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Exercises or chapters, such as 02.1 or 02.")
    ] = None,
    hint: Annotated[int, typer.Option(min=0, max=3, help="Also show hints, up to this one.")] = 0,
    solution: Annotated[bool, typer.Option("--solution", help="Also show the solution.")] = False,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Judge exercises by the state of the target; exit 0 if all of them are passed."""
    from qwenkit.exercises.checking import check_all

    found = check_all(ids or (), read_settings(params, set_, context))
    shown = "\n".join(_shown(one, hint, solution=solution) for one in found)
    emit([one.to_dict() for one in found] if as_json else shown, as_json=as_json)
    raise typer.Exit(0 if all(one.verdict.kind == "passed" for one in found) else 1)


def _shown(one: Checked, hint: int, *, solution: bool) -> str:
    own = one.exercise
    lines = [f"hint {n}: {text}" for n, text in enumerate(own.hints[:hint], 1)]
    lines += [f"solution: {own.solution}"] * solution
    return "\n".join([str(one), *(f"  {line}" for line in lines)])


def answer(
    id_: Id,
    value: Annotated[str, typer.Argument(help="A number, a text, or JSON.")],
    params: Params = None,
    set_: Set = None,
    context: Context = None,
) -> None:
    """Answer an exercise; then check it."""
    from qwenkit.exercises import checking

    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        read = value
    settings = read_settings(params, set_, context)
    emit(checking.answer(id_, read, settings), as_json=False)
    check([id_], params=params, set_=set_, context=context)


def progress(
    params: Params = None, set_: Set = None, context: Context = None, as_json: Json = False
) -> None:
    """Show which exercises are passed, by chapter."""
    from qwenkit.exercises.progress import progress

    emit(progress(read_settings(params, set_, context)), as_json=as_json)


def reset(
    chapter: Annotated[str, typer.Argument(help="Number of a chapter, such as 03.")],
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Bring the target to the start of a chapter; weights stay unless delete_weights is set."""
    from qwenkit.exercises.reset import reset

    settings = read_settings(params, set_, context)
    emit(reset(settings, chapter, on_step=stderr_lines(quiet=as_json)), as_json=as_json)
