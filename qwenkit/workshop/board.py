"""The instructor's board: one row a participant, made of a few lists of objects. Pure.

What participants write is shown to somebody who may do more than they. So each text is cut, and
letters that a terminal or a page would obey are left out; HTML is escaped where it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from qwenkit.cluster.gpu_slot import CLOSED, TOLD, GpuSlot, clock
from qwenkit.cluster.kinds import Obj, condition, name_of
from qwenkit.exercises.exercise import chapters, of_chapter
from qwenkit.exercises.sharing import PROGRESS, SharedProgress, shared
from qwenkit.language import said
from qwenkit.widgets.display import show_table
from qwenkit.workshop.bill import Bill, bill_of, slots_of
from qwenkit.workshop.description import DESCRIPTION, Description
from qwenkit.workshop.names import SLOTS, WorkshopName
from qwenkit.workshop.slots.state import Slots

_NAME_LETTERS, _LINE_LETTERS, _CAUSE_LETTERS = 24, 100, 300
_STATES = {"True": "ok", "False": "error"}
_COLUMNS = ("participant", "chapter", "checks", "GPU slot", "GPU min", "service", "why")


@dataclass(frozen=True)
class ServiceState:
    """A participant's Service: whether it is ready, and in one line why not.

    ``state`` is ``ok``, ``warn`` while it starts, ``error``, or empty without a Service.
    ``seen`` changes when its condition does: then an older explanation is no longer true.
    ``explained``: the line is that of ``explain``, not the cluster's own message.
    """

    service: str = ""
    state: str = ""
    why: str = ""
    seen: str = ""
    explained: bool = False


@dataclass(frozen=True)
class BoardRow:
    """One participant. ``cost`` is at the workshop's price, None without one."""

    id: str
    name: str
    progress: SharedProgress
    slot: GpuSlot
    service: ServiceState
    gpu_seconds: float
    cost: float | None


@dataclass(frozen=True, repr=False)
class Board:
    """All participants at one moment; ``exercises`` is how many there are to pass. Unix seconds."""

    workshop: str
    rows: tuple[BoardRow, ...]
    slots: Slots
    bill: Bill
    exercises: int

    def head(self) -> str:
        """Return the line above the rows, in the person's language."""
        slots, waiting = self.slots, sum(row.slot.slot == "waiting" for row in self.rows)
        held = sum(grant.gpus for grant in slots.grants.values())
        parts = [f"{held} of {slots.total} GPUs held", f"{waiting} waiting"]
        parts.append(f"{self.bill.gpu_seconds / 60:.1f} GPU minutes used")
        if self.bill.cost is not None:
            parts.append(f"{self.bill.cost:.2f} CNY so far")
        if slots.budget_gpu_hours is not None:
            parts.append(f"{60 * slots.budget_gpu_hours:g} GPU minutes in the budget")
        closed = slots.ended or ("frozen" if slots.frozen else "")
        parts += [f"no GPUs now: {CLOSED.get(closed, closed)}"] if closed else []
        head = said(f"workshop {self.workshop}: {'; '.join(parts)}")
        return f"{head}\n{said(f'your note: {harmless(slots.note)}')}" if slots.note else head

    def __repr__(self) -> str:
        return f"{self.head()}\n{self._table()!r}"

    __str__ = __repr__

    def html(self) -> str:
        """Return the board as HTML in the person's language."""
        table: str = self._table()._repr_mimebundle_()["text/html"]
        # No formula is typeset: a participant's text may hold dollar signs.
        style = "font-variant-numeric:tabular-nums;overflow-x:auto"
        return (
            f"<div class='tex2jax_ignore mathjax_ignore' style='{style}'>"
            f"<p style='margin:4px 0;white-space:pre-line'>{escape(self.head())}</p>{table}</div>"
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.html()}

    def _table(self) -> Any:
        cells = [
            (
                f"{row.id} {row.name}".rstrip(),
                row.progress.chapter,
                f"{row.progress.passed}/{self.exercises}",
                _slot(row.slot),
                f"{row.gpu_seconds / 60:.1f}" if row.gpu_seconds else "",
                row.service.state,
                harmless(said(row.service.why) if row.service.explained else row.service.why),
            )
            for row in self.rows
        ]
        return show_table(cells, *_COLUMNS, empty="no participants", kept=("participant", "why"))


def read_board(
    workshop: str,
    config_maps: Iterable[Obj],
    services: Sequence[Obj],
    explained: Mapping[tuple[str, str], str],
    price: float | None = None,
) -> Board:
    """Return the board of what was listed; without a description there is nobody on it.

    Args:
        workshop: its name.
        config_maps: those with the workshop's label, in all namespaces.
        services: Knative Services of all namespaces; those of others are left out.
        explained: the one line of ``explain``, by namespace and ``ServiceState.seen``.
        price: an example price of a GPU-hour, CNY, where the workshop has none of its own.
    """
    owner = WorkshopName(workshop)
    found = {(_space(one), name_of(one)): one for one in config_maps}
    made, kept = (found.get((owner.namespace, name)) for name in (DESCRIPTION, SLOTS))
    about = Description.of(owner, made) if made else Description(owner, (), 0, "")
    slots = slots_of(about, kept)
    bill = bill_of(about, slots, price)
    rows = []
    for who, line in zip(about.participants, bill.lines, strict=True):
        where = who.namespace
        rows.append(
            BoardRow(
                who.id,
                harmless(who.display_name, _NAME_LETTERS),
                shared(found.get((where, PROGRESS), {})),
                GpuSlot.of(found.get((where, TOLD))),
                _service((one for one in services if _space(one) == where), where, explained),
                line.gpu_seconds,
                line.cost,
            )
        )
    exercises = sum(len(of_chapter(one)) for one in chapters())
    return Board(workshop, tuple(rows), slots, bill, exercises)


def harmless(text: str, most: int = _LINE_LETTERS) -> str:
    """Return a text on one line of at most ``most`` letters, none of which has an effect."""
    letters = (
        letter if letter.isprintable() else " " * letter.isspace() for letter in text[: 4 * most]
    )
    line = " ".join("".join(letters).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _space(obj: Obj) -> str:
    return str(obj["metadata"].get("namespace") or "")


def _service(
    services: Iterable[Obj], where: str, explained: Mapping[tuple[str, str], str]
) -> ServiceState:
    """Return the state of the Service that needs attention most."""
    states = []
    for one in services:
        ready = condition(one, "Ready")
        state = _STATES.get(str(ready.get("status")), "warn")
        seen = "/".join(str(ready.get(key)) for key in ("status", "reason", "lastTransitionTime"))
        seen = f"{name_of(one)}/{one['metadata'].get('generation')}/{seen}"
        cause = str(ready.get("message") or ready.get("reason") or "it starts")
        known = explained.get((where, seen), "")
        why = "" if state == "ok" else harmless(known or cause, _CAUSE_LETTERS)
        states.append(ServiceState(name_of(one), state, why, seen, bool(known)))
    order = ("error", "warn", "ok")
    return min(states, key=lambda each: order.index(each.state), default=ServiceState())


def _slot(slot: GpuSlot) -> str:
    if slot.slot == "granted":
        return f"{slot.gpus} GPU until {clock(slot.until)}"
    if slot.slot != "waiting":
        return ""
    if slot.expected_at is None:
        return f"waiting: number {slot.position}"
    return f"waiting: number {slot.position}, expected at {clock(slot.expected_at)}"
