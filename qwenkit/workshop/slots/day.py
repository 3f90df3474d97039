"""What an instructor does to the slots: changes of their rules, and the end of the day."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from qwenkit.cluster.wait import OnChange, wait
from qwenkit.workshop.slots.keeper import Keeper
from qwenkit.workshop.slots.room import Look, Room
from qwenkit.workshop.slots.state import Slots


def change_now(room: Room, change: Callable[[Slots], Slots]) -> Slots:
    """Change the state, and let it have its effect at once, also where no keeper runs."""
    room.edit(change)
    with closing(Keeper(room)) as keeper:
        keeper.turn()
    return room.read()


def end_day(room: Room, *, timeout_s: float, on_change: OnChange | None = None) -> None:
    """Take all slots back for good, and wait until no pod holds a GPU.

    Raises:
        WaitTimeout: pods are left; it names them.
    """
    room.edit(lambda slots: replace(slots, ended="ended"))

    def left() -> Look:
        keeper.turn()
        return room.look()

    with closing(Keeper(room)) as keeper:
        wait(
            left,
            what="no GPU held by a participant",
            ready=lambda look: not look.pods,
            describe=lambda look: (
                ", ".join(f"{pod.participant}/{pod.name}" for pod, _ in look.pods.values())
                or "all GPUs are free"
            ),
            timeout_s=timeout_s,
            on_change=on_change,
        )
        keeper.turn()
