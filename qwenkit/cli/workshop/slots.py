"""``qwenkit workshop``: GPU slots of participants, and what the instructor says of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli.console import emit, interruptible, say, stderr_lines
from qwenkit.cli.options import Context, Json, Params, Set, read_settings
from qwenkit.cli.workshop.options import DEFAULT, Name
from qwenkit.course.interrupts import terminable
from qwenkit.errors import InvalidValue

if TYPE_CHECKING:
    from qwenkit.settings import Settings
    from qwenkit.workshop.slots.policy import Allotment
    from qwenkit.workshop.slots.room import Room
    from qwenkit.workshop.slots.state import Slots

_LONGEST_NOTE = 500


def ask(
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that are wanted.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.1, help="For how long, from now.")] = 20,
    wait: Annotated[bool, typer.Option(help="Wait until it is granted.")] = True,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Ask for a GPU slot, or for more time; a participant's command."""
    from qwenkit.cluster import gpu_slot
    from qwenkit.cluster.client import Cluster

    settings = read_settings(params, set_, context)
    with closing(Cluster.connect(settings)) as cluster, interruptible():
        gpu_slot.ask_for(cluster, settings, gpus=gpus, minutes=minutes)
        if wait:
            show = stderr_lines(quiet=as_json)
            emit(gpu_slot.hold(cluster, settings, on_change=show), as_json=as_json)
        else:
            emit(gpu_slot.read_slot(cluster, settings), as_json=as_json)


def give_back(params: Params = None, set_: Set = None, context: Context = None) -> None:
    """Give the GPU slot back, or leave the queue; a participant's command."""
    from qwenkit.cluster import gpu_slot
    from qwenkit.cluster.client import Cluster

    settings = read_settings(params, set_, context)
    with closing(Cluster.connect(settings)) as cluster:
        given = gpu_slot.give_back(cluster)
    say("the GPU slot is given back" if given else "there was no GPU slot")


def slot(
    params: Params = None, set_: Set = None, context: Context = None, as_json: Json = False
) -> None:
    """Show the GPU slot: held until, or number in the queue; exit 1 without one."""
    from qwenkit.cluster import gpu_slot
    from qwenkit.cluster.client import Cluster

    settings = read_settings(params, set_, context)
    settings.require("workshop")
    with closing(Cluster.connect(settings)) as cluster:
        found = gpu_slot.read_slot(cluster, settings)
    emit(found, as_json=as_json)
    raise typer.Exit(0 if found.slot == "granted" else 1)


def keep(
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
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

    keeper = Keeper(_room(read_settings(params, set_, context), name))
    with terminable(), interruptible():
        keeper.run(lambda seconds: once or Event().wait(seconds), show)


def hours(
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
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Set class hours, by this machine's clock, or the budget; without either, no class hours."""
    from qwenkit.workshop.slots.hours import ClassHours, seconds_of_day

    if bool(begin) != bool(until):
        raise InvalidValue("--from", begin, "needs --until, and the other way round")
    times = None
    if begin:
        times = ClassHours(
            seconds_of_day(begin),
            seconds_of_day(until),
            time.localtime().tm_gmtoff,
            round(warm_minutes * 60),
            min_scale,
        )

    def change(slots: Slots) -> Slots:
        budget = slots.budget_gpu_hours if budget_gpu_hours is None else budget_gpu_hours or None
        kept = None if budget_gpu_hours is None else slots.hours
        return replace(slots, hours=times or kept, budget_gpu_hours=budget)

    _change(read_settings(params, set_, context), name, change, as_json=as_json)


def note(
    text: Annotated[str, typer.Argument(help="What everyone reads; empty removes it.")],
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Send a note that appears in everyone's notebook."""
    words = "".join(letter for letter in text if letter.isprintable())[:_LONGEST_NOTE]
    settings = read_settings(params, set_, context)
    _change(settings, name, lambda slots: replace(slots, note=words), as_json=as_json)


def freeze(
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Take all GPUs back for a moment; everyone keeps the place in the queue."""
    settings = read_settings(params, set_, context)
    _change(settings, name, lambda slots: replace(slots, frozen=True), as_json=as_json)


def unfreeze(
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Grant GPUs again, also after the end of a day."""
    settings = read_settings(params, set_, context)
    _change(settings, name, lambda slots: replace(slots, frozen=False, ended=""), as_json=as_json)


def free(
    participant: Annotated[str, typer.Argument(help="Whose slot is taken back, such as p07.")],
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Take one participant's GPU slot back; asking again is allowed."""
    settings = read_settings(params, set_, context)
    _change(settings, name, lambda slots: slots.freed(participant), as_json=as_json)


def end(
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """End the day: all GPUs are taken back, nothing that costs is left; print the bill."""
    from qwenkit.workshop.bill import bill
    from qwenkit.workshop.names import WorkshopName
    from qwenkit.workshop.slots.day import end_day

    settings = read_settings(params, set_, context)
    show = stderr_lines(quiet=as_json)
    with terminable(), interruptible():
        room = _room(settings, name)
        end_day(room, timeout_s=settings.seconds("teardown"), on_change=show)
    emit(bill(settings, WorkshopName(name)), as_json=as_json)


def _room(settings: Settings, name: str) -> Room:
    from qwenkit.workshop.names import WorkshopName
    from qwenkit.workshop.slots.room import Room

    return Room.connect(settings, WorkshopName(name))


def _change(
    settings: Settings, name: str, change: Callable[[Slots], Slots], *, as_json: bool
) -> None:
    from qwenkit.workshop.slots.day import change_now

    emit(change_now(_room(settings, name), change), as_json=as_json)


COMMANDS = (ask, give_back, slot, keep, hours, note, freeze, unfreeze, free, end)
