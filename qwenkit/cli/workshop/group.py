"""``qwenkit workshop create`` … ``delete``, and the group of all its commands."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli.commands import Group
from qwenkit.cli.console import agreed, can_ask, emit, say
from qwenkit.cli.options import Json
from qwenkit.cli.serving import answer_ended
from qwenkit.cli.workshop import board, slots
from qwenkit.cli.workshop.options import command
from qwenkit.cli.workshop.rehearse import rehearse
from qwenkit.errors import InvalidValue
from qwenkit.untrusted.files import read_text

Output = Annotated[Path | None, typer.Option(help="Folder of the sheets (default: workshop-NAME).")]
Link = Annotated[
    str, typer.Option(help="Base URL where that folder will be served; QR codes point there.")
]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, cls=Group)
_MOST_BYTES = 2**20

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwenkit.workshop.front import Workshop
    from qwenkit.workshop.sheets import Sheets


@app.callback()
def _group() -> None:
    """Workshops: a namespace for each participant, few GPUs for many."""


def create(
    workshop: Workshop,
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
    as_json: Json = False,
) -> None:
    """Make a workshop, or what is missing of it; what is there stays."""
    from qwenkit import steps
    from qwenkit.workshop import create as creating

    made = creating.create(
        steps.resolve(workshop.settings),
        workshop.name,
        _people(participants, names),
        gpu_slots,
        dry_run=dry_run,
        clean_up=clean_up,
        on_step=workshop.on_change,
    )
    given = None if dry_run else _sheets(workshop, output, link)
    emit(vars(made) | {"sheets": given} if as_json else made, as_json=as_json)
    if given and not as_json:
        emit(given, as_json=False)


def sheets(
    workshop: Workshop,
    only: Annotated[
        list[str] | None, typer.Argument(metavar="[PARTICIPANT]...", help="Of these alone.")
    ] = None,
    output: Output = None,
    link: Link = "",
) -> object:
    """Write the participants' sheets and files again, with new tokens."""
    return _sheets(workshop, output, link, only or ())


def _sheets(workshop: Workshop, output: Path | None, link: str, only: Sequence[str] = ()) -> Sheets:
    from qwenkit.workshop import sheets as handing_out

    folder = output or Path(f"workshop-{workshop.name.name}")
    return handing_out.write(workshop.settings, workshop.name, folder, only=only, link=link)


def delete(
    workshop: Workshop,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask at a terminal.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a workshop with all that its participants made; then audit for leaks."""
    from qwenkit.workshop import delete as deleting

    question = f"Remove workshop {workshop.name.name} and all that its participants made?"
    if can_ask() and not (yes or as_json or agreed(question, err=True)):
        say("nothing was changed", err=True)
        raise typer.Exit(1)
    show = workshop.on_change
    ended = deleting.delete(workshop.settings, workshop.name, on_step=show, on_change=show)
    answer_ended(ended, as_json=as_json)


def status(workshop: Workshop, as_json: Json = False) -> None:
    """Show what stands of a workshop, its slots, and its cost; exit 1 if a namespace is missing."""
    found = workshop.status()
    emit(found, as_json=as_json)
    raise typer.Exit(1 if found.missing else 0)


def extend(
    workshop: Workshop,
    lasts: Annotated[str, typer.Option("--for", help="How long from now, such as 8h.")] = "12h",
    output: Output = None,
    link: Link = "",
) -> object:
    """Let a workshop end later, and write its sheets again, with new tokens."""
    from qwenkit.settings import Settings
    from qwenkit.workshop import manage

    given = workshop.settings.model_dump(exclude_unset=True)
    manage.extend(Settings(**given | {"expires_after": lasts}), workshop.name)
    return _sheets(workshop, output, link)


def reset(
    workshop: Workshop,
    participant: Annotated[str, typer.Argument(help="Id or name of a participant.")],
    chapter: Annotated[str, typer.Argument(help="The chapter to be started, such as 04.")],
) -> object:
    """Bring a participant's namespace to the start of a chapter."""
    return workshop.reset(participant, chapter)


def bill(workshop: Workshop) -> object:
    """Show what each participant's GPUs have cost, at an example price unless one is set."""
    from qwenkit.workshop import bill as billing

    return billing.bill(workshop.settings, workshop.name)


def _people(count: int, names: Path | None) -> list[str]:
    """Return the names to show; empty ones where only the number is known."""
    if names is None:
        if count < 1:
            raise InvalidValue(
                "--participants", count, "is needed, or --from CSV", "--participants 30"
            )
        return [""] * count
    from qwenkit.workshop.board import harmless

    try:
        rows = list(csv.reader(read_text(names, most=_MOST_BYTES).splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidValue("--from", str(names), f"must be a CSV file: {error}") from None
    given = [harmless(row[0], 60) for row in rows if row and row[0].strip()]
    if given and given[0].lower() in ("name", "names", "姓名"):
        del given[0]
    return given + [""] * (count - len(given))


for _act in (create, sheets, delete, status, extend, reset, bill, board.board):
    app.command()(command(_act))
for _command in (rehearse, *slots.COMMANDS):
    app.command()(_command)
