"""``qwenkit workshop``: GPU slots of participants, and what the instructor says of them."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli.console import emit, say
from qwenkit.cli.options import Json
from qwenkit.cli.workshop.options import command
from qwenkit.errors import InvalidValue

if TYPE_CHECKING:
    from qwenkit.workshop.front import Workshop
    from qwenkit.workshop.slots.policy import Allotment
    from qwenkit.workshop.slots.state import Slots

Whose = Annotated[str, typer.Argument(help="Whose slot is taken back, such as p07.")]


def ask(
    workshop: Workshop,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that are wanted.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.1, help="For how long, from now.")] = 20,
    wait: Annotated[bool, typer.Option(help="Wait until it is granted.")] = True,
) -> object:
    """Ask for a GPU slot, or for more time; a participant's command."""
    from qwenkit.cluster import gpu_slot
    from qwenkit.cluster.client import Cluster

    settings = workshop.settings
    with closing(Cluster.connect(settings)) as cluster:
        gpu_slot.ask_for(cluster, settings, gpus=gpus, minutes=minutes)
        if wait:
            return gpu_slot.hold(cluster, settings, on_change=workshop.on_change)
        return gpu_slot.read_slot(cluster, settings)


def give_back(workshop: Workshop) -> None:
    """Give the GPU slot back, or leave the queue; a participant's command."""
    given = workshop.give_back()
    say("the GPU slot is given back" if given else "there was no GPU slot")


def slot(workshop: Workshop, as_json: Json = False) -> None:
    """Show the GPU slot: held until, or number in the queue; exit 1 without one."""
    workshop.settings.require("workshop")
    found = workshop.slot()
    emit(found, as_json=as_json)
    raise typer.Exit(0 if found.slot == "granted" else 1)


def keep(
    workshop: Workshop,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
) -> None:
    """Keep the GPU slots until Ctrl-C: grant, take back, count; any number may run."""
    from qwenkit.workshop.slots.keeper import Keeper

    seen = ""

    def show(made: Allotment | None) -> None:
        nonlocal seen
        line = str(made) if made else "another keeper works"
        if line != seen:
            say(line, err=True)
        seen = line

    Keeper(workshop.room()).run(lambda seconds: once or Event().wait(seconds), show)


def hours(
    workshop: Workshop,
    begin: Annotated[str, typer.Option("--from", help="When class begins, such as 09:00.")] = "",
    until: Annotated[str, typer.Option(help="When it ends; GPUs are taken back then.")] = "",
    warm_minutes: Annotated[
        float, typer.Option(min=0, max=600, help="GPUs may be held so long before.")
    ] = 0,
    min_scale: Annotated[
        int, typer.Option(min=0, max=16, help="Replicas kept while a slot is held.")
    ] = 0,
    budget_gpu_hours: Annotated[
        float | None, typer.Option(min=0, help="The day ends before more is used; 0: no budget.")
    ] = None,
) -> object:
    """Set class hours, by this machine's clock, or the budget; without either, no class hours."""
    from qwenkit.workshop.slots.hours import ClassHours, seconds_of_day

    if bool(begin) != bool(until):
        raise InvalidValue("--from", begin, "needs --until, and the other way round")
    times = None
    if begin:
        ahead_s, warm_s = time.localtime().tm_gmtoff, round(warm_minutes * 60)
        day = seconds_of_day(begin), seconds_of_day(until)
        times = ClassHours(*day, ahead_s, warm_s, min_scale)

    def change(slots: Slots) -> Slots:
        budget = slots.budget_gpu_hours if budget_gpu_hours is None else budget_gpu_hours or None
        kept = None if budget_gpu_hours is None else slots.hours
        return replace(slots, hours=times or kept, budget_gpu_hours=budget)

    return workshop.change(change)


def note(
    workshop: Workshop,
    text: Annotated[str, typer.Argument(help="What everyone reads; empty removes it.")],
) -> object:
    """Send a note that appears in everyone's notebook."""
    return workshop.note(text)


def freeze(workshop: Workshop) -> object:
    """Take all GPUs back for a moment; everyone keeps the place in the queue."""
    return workshop.freeze()


def unfreeze(workshop: Workshop) -> object:
    """Grant GPUs again, also after the end of a day."""
    return workshop.freeze(False)


def free(workshop: Workshop, participant: Whose) -> object:
    """Take one participant's GPU slot back; asking again is allowed."""
    return workshop.free(participant)


def end(workshop: Workshop) -> object:
    """End the day: all GPUs are taken back, nothing that costs is left; print the bill."""
    return workshop.end()


COMMANDS = (
    *(command(ask, without=("name",)), command(give_back, without=("name", "as_json"))),
    *(command(slot, without=("name",)), command(keep, without=("as_json",))),
    *(command(act) for act in (hours, note, freeze, unfreeze, free, end)),
)
