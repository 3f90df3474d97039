"""A workshop as notebooks use it, its instructor's and a participant's: each calls one room."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from threading import Event, Thread
from typing import Self

from qwenkit.cluster import gpu_slot
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.gpu_slot import GpuSlot
from qwenkit.cluster.teardown import Leaks
from qwenkit.cluster.wait import wait
from qwenkit.exercises.reset import ResetReport
from qwenkit.language import said
from qwenkit.settings import Settings
from qwenkit.steps import resolve
from qwenkit.workshop import create as creating
from qwenkit.workshop import delete as deleting
from qwenkit.workshop import description, manage
from qwenkit.workshop.bill import Bill, bill
from qwenkit.workshop.board import harmless
from qwenkit.workshop.board_panel import BoardPanel
from qwenkit.workshop.board_reader import BoardReader
from qwenkit.workshop.manage import WorkshopStatus
from qwenkit.workshop.names import DEFAULT, WorkshopName
from qwenkit.workshop.slots.day import change_now, end_day
from qwenkit.workshop.slots.keeper import Keeper
from qwenkit.workshop.slots.room import Room
from qwenkit.workshop.slots.state import Slots

_ANSWER_S = 15.0  # of the keeper, which looks every 4 s


class Workshop:
    """The workshop ``name``, else the one that the settings name, else ``workshop``.

    ``on_change`` is called with what happens while something takes its time.

    >>> from qwenkit import Settings, Workshop
    >>> Workshop(Settings())
    workshop workshop
    """

    def __init__(
        self,
        settings: Settings,
        name: str = "",
        *,
        on_change: Callable[[object], None] = lambda _line: None,
    ) -> None:
        self.settings, self.name = settings, WorkshopName(name or settings.workshop or DEFAULT)
        self.on_change = on_change
        self._over = Event()
        self._keeper: Thread | None = None
        self._panel: BoardPanel | None = None

    @classmethod
    def create(
        cls, settings: Settings, participants: int = 2, gpu_slots: int = 1, name: str = ""
    ) -> Self:
        """Make a workshop, or what is missing of it.

        Raises:
            NotFound: the weights are not in the bucket.
            Conflict: a name is taken by an object that is not this workshop's.
        """
        made = cls(resolve(settings), name)
        creating.create(made.settings, made.name, [""] * participants, gpu_slots)
        return made

    def participant(self, id_: str) -> Workshop:
        """Return the workshop as a participant such as ``p01`` has it, by the instructor's context.

        Raises:
            NotFound: there is no such participant.
        """
        with closing(description.connect(self.settings, self.name)) as cluster:
            known = description.read(cluster, self.name)
        own = known.parameters(known.participant(id_)) | {"context": self.settings.context}
        return Workshop(self.settings.model_copy(update=own))

    def keep(self) -> None:
        """Keep the GPU slots from here until ``delete``, should nobody else do it."""
        if self._keeper is None:
            run = Keeper(self.room()).run
            self._keeper = Thread(target=run, args=(self._over.wait,), daemon=True)
            self._keeper.start()

    def status(self) -> WorkshopStatus:
        """Return what stands of it, its slots and its cost."""
        return manage.status(self.settings, self.name)

    def board(self) -> BoardPanel:
        """Return the live board, with the instructor's buttons; it also keeps the slots."""
        self.keep()
        self._panel = BoardPanel(BoardReader.connect(self.settings, self.name).read, self)
        return self._panel

    def ask(self, gpus: int = 1, minutes: float = 20) -> GpuSlot:
        """Ask for a GPU slot, as the participant of the settings; return what the keeper answers.

        Raises:
            WaitTimeout: nobody keeps the slots.
        """
        with closing(Cluster.connect(self.settings)) as cluster:
            wish = gpu_slot.ask_for(cluster, self.settings, gpus=gpus, minutes=minutes)
            return wait(
                lambda: gpu_slot.read_slot(cluster, self.settings),
                what="an answer of the slots' keeper",
                ready=lambda told: told.ask == wish["metadata"]["uid"],
                describe=str,
                timeout_s=_ANSWER_S,
            ).value

    def slot(self) -> GpuSlot:
        """Return what the participant of the settings is told: slot, note, end of the day."""
        with closing(Cluster.connect(self.settings)) as cluster:
            return gpu_slot.read_slot(cluster, self.settings)

    def give_back(self) -> bool:
        """Give the participant's slot back, or leave the queue; False if there was neither."""
        with closing(Cluster.connect(self.settings)) as cluster:
            return gpu_slot.give_back(cluster)

    def reset(self, participant: str, chapter: str) -> ResetReport:
        """Bring a participant to the start of a chapter."""
        return manage.reset(self.settings, self.name, participant, chapter, on_step=self.on_change)

    def free(self, participant: str) -> Slots:
        """Take a participant's slot; they may ask again."""
        return self.change(lambda slots: slots.freed(participant))

    def note(self, text: str) -> Slots:
        """Show a note to all participants; an empty one takes it away."""
        return self.change(lambda slots: replace(slots, note=harmless(text, 500)))

    def freeze(self, frozen: bool = True) -> Slots:
        """Take all GPUs for a moment; with ``False`` grant them again, also after the day's end."""
        return self.change(
            lambda slots: replace(slots, frozen=frozen, ended=slots.ended if frozen else "")
        )

    def end(self) -> Bill:
        """End the day: take all GPUs for good, and return the bill when no pod holds one."""
        limit_s = self.settings.seconds("teardown")
        end_day(self.room(), timeout_s=limit_s, on_change=self.on_change)
        return bill(self.settings, self.name)

    def delete(self) -> Leaks:
        """Remove the workshop with all that its participants made; return what is left of it.

        Raises:
            QwenkitError: something cannot be removed.
        """
        self._over.set()
        if self._panel is not None:
            self._panel.close()
        ended = deleting.delete(self.settings, self.name)
        if ended.error is not None:
            raise ended.error
        return ended.leaks

    def change(self, change: Callable[[Slots], Slots]) -> Slots:
        """Change the state of the slots, with its effect at once."""
        return change_now(self.room(), change)

    def room(self) -> Room:
        """Connect to the slots."""
        return Room.connect(self.settings, self.name)

    def __repr__(self) -> str:
        return said(f"workshop {self.name.name}")
