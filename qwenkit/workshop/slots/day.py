"""The end of a workshop's day: all slots are taken back, and no pod holds a GPU."""

from __future__ import annotations

from dataclasses import replace

from qwenkit.cluster.wait import OnChange, wait
from qwenkit.workshop.slots.keeper import Keeper
from qwenkit.workshop.slots.room import Look, Room


def end_day(room: Room, *, timeout_s: float, on_change: OnChange | None = None) -> None:
    """Take all slots back for good, and wait until no pod holds a GPU.

    Raises:
        WaitTimeout: pods are left; it names them.
    """
    room.edit(lambda slots: replace(slots, ended="ended"))
    keeper = Keeper(room)

    def left() -> Look:
        keeper.turn()
        return room.look()

    try:
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
    finally:
        keeper.release()
