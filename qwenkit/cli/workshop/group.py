"""``qwenkit workshop create`` … ``delete``, and the group of all its commands."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli.commands import Group
from qwenkit.cli.console import emit, stderr_lines
from qwenkit.cli.options import Context, Json, Params, Set, read_settings
from qwenkit.cli.serving import answer_ended
from qwenkit.cli.workshop import board, slots
from qwenkit.cli.workshop.options import DEFAULT, Name
from qwenkit.cli.workshop.rehearse import rehearse
from qwenkit.course.interrupts import terminable
from qwenkit.errors import InvalidValue
from qwenkit.untrusted.files import read_text
from qwenkit.workshop.names import WorkshopName

Output = Annotated[Path | None, typer.Option(help="Folder of the sheets (default: workshop-NAME).")]
Link = Annotated[
    str, typer.Option(help="Base URL where that folder will be served; QR codes point there.")
]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, cls=Group)
_MOST_BYTES = 2**20

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwenkit.settings import Settings
    from qwenkit.workshop.sheets import Sheets


@app.callback()
def _group() -> None:
    """Workshops: a namespace for each participant, few GPUs for many."""


@app.command()
def create(
    participants: Annotated[int, typer.Option(min=0, help="How many participants.")] = 0,
    names: Annotated[
        Path | None, typer.Option("--from", metavar="CSV", help="Their names: a line of each.")
    ] = None,
    gpu_slots: Annotated[int, typer.Option(min=0, help="GPUs that they share.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    clean_up: Annotated[
        bool, typer.Option("--clean-up", help="A CronJob removes all after its end.")
    ] = False,
    output: Output = None,
    link: Link = "",
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Make a workshop, or what is missing of it; what is there stays."""
    from qwenkit import steps
    from qwenkit.workshop import create as creating

    settings = steps.resolve(read_settings(params, set_, context))
    people = _people(participants, names)
    show = stderr_lines(quiet=as_json)
    made = creating.create(
        settings,
        WorkshopName(name),
        people,
        gpu_slots,
        dry_run=dry_run,
        clean_up=clean_up,
        on_step=show,
    )
    given = None if dry_run else _sheets(settings, name, output, link=link)
    emit(vars(made) | {"sheets": given} if as_json else made, as_json=as_json)
    if given and not as_json:
        emit(given, as_json=False)


@app.command()
def sheets(
    only: Annotated[
        list[str] | None, typer.Argument(metavar="[PARTICIPANT]...", help="Of these alone.")
    ] = None,
    output: Output = None,
    link: Link = "",
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Write the participants' sheets and files again, with new tokens."""
    settings = read_settings(params, set_, context)
    emit(_sheets(settings, name, output, link=link, only=only or ()), as_json=as_json)


def _sheets(
    settings: Settings, name: str, output: Path | None, *, link: str, only: Sequence[str] = ()
) -> Sheets:
    from qwenkit.workshop import sheets as handing_out

    folder = output or Path(f"workshop-{name}")
    return handing_out.write(settings, WorkshopName(name), folder, only=only, link=link)


@app.command()
def delete(
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Remove a workshop with all that its participants made; then audit for leaks."""
    from qwenkit.workshop import delete as deleting

    settings, show = read_settings(params, set_, context), stderr_lines(quiet=as_json)
    with terminable():
        ended = deleting.delete(settings, WorkshopName(name), on_step=show, on_change=show)
    answer_ended(ended, as_json=as_json)


@app.command()
def status(
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Show what stands of a workshop, its slots, and its cost; exit 1 if a namespace is missing."""
    from qwenkit.workshop import manage

    found = manage.status(read_settings(params, set_, context), WorkshopName(name))
    emit(found, as_json=as_json)
    raise typer.Exit(1 if found.missing else 0)


@app.command()
def extend(
    lasts: Annotated[str, typer.Option("--for", help="How long from now, such as 8h.")] = "12h",
    output: Output = None,
    link: Link = "",
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Let a workshop end later, and write its sheets again, with new tokens."""
    from qwenkit.workshop import manage

    settings = read_settings(params, set_, context, expires_after=lasts)
    manage.extend(settings, WorkshopName(name))
    emit(_sheets(settings, name, output, link=link), as_json=as_json)


@app.command()
def reset(
    participant: Annotated[str, typer.Argument(help="Id or name of a participant.")],
    chapter: Annotated[str, typer.Argument(help="The chapter to be started, such as 04.")],
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Bring a participant's namespace to the start of a chapter."""
    from qwenkit.workshop import manage

    settings, show = read_settings(params, set_, context), stderr_lines(quiet=as_json)
    done = manage.reset(settings, WorkshopName(name), participant, chapter, on_step=show)
    emit(done, as_json=as_json)


@app.command()
def bill(
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Show what each participant's GPUs have cost, at an example price unless one is set."""
    from qwenkit.workshop import bill as billing

    emit(billing.bill(read_settings(params, set_, context), WorkshopName(name)), as_json=as_json)


def _people(count: int, names: Path | None) -> list[str]:
    """Return the names to show; empty ones where only the number is known."""
    if names is None:
        if count < 1:
            raise InvalidValue(
                "--participants", count, "is needed, or --from CSV", "--participants 30"
            )
        return [""] * count
    try:
        rows = list(csv.reader(read_text(names, most=_MOST_BYTES).splitlines()))
    except (OSError, csv.Error) as error:
        raise InvalidValue("--from", str(names), f"must be a CSV file: {error}") from None
    given = [_shown(row[0]) for row in rows if row and row[0].strip()]
    if given and given[0].lower() in ("name", "names", "姓名"):
        del given[0]
    return given + [""] * (count - len(given))


def _shown(text: str) -> str:
    """Return a name without what a terminal or a page would take for a command."""
    return "".join(letter for letter in text.strip() if letter.isprintable())[:60]


for _command in (board.board, rehearse, *slots.COMMANDS):
    app.command()(_command)
