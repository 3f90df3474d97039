"""Run a rehearsal: a real workshop, a keeper, and a thread for each scripted learner."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from qwenkit.cluster.api.connect import connection
from qwenkit.cluster.api.transport import NoAnswer, Request
from qwenkit.errors import Conflict, InvalidValue, QwenkitError
from qwenkit.exercises.learner import RECORD
from qwenkit.inference.metrics import parse
from qwenkit.private_files import write_private
from qwenkit.settings import Settings
from qwenkit.workshop.access import access
from qwenkit.workshop.bill import bill
from qwenkit.workshop.create import create
from qwenkit.workshop.delete import delete
from qwenkit.workshop.description import Description, connect, find
from qwenkit.workshop.names import Participant, WorkshopName
from qwenkit.workshop.rehearsal.pod_hours import PodHours
from qwenkit.workshop.rehearsal.report import Passage, RehearsalReport
from qwenkit.workshop.rehearsal.script import (
    CHAPTERS,
    GIVE_BACK,
    NEED_GPU,
    SLIPS,
    Student,
    exercises,
)
from qwenkit.workshop.rehearsal.temper import Temper
from qwenkit.workshop.slots.keeper import Keeper
from qwenkit.workshop.slots.room import Room

_LOOK_S, _KEEPS_S = 1.0, 2.0  # of our counts, and of the keeper: pods are short here
NAME = WorkshopName("rehearsal")


@dataclass(frozen=True)
class Rehearsal:
    """What is rehearsed: how many learners, GPUs and chapters, and the clock of the target."""

    participants: int = 30
    gpu_slots: int = 9
    chapters: tuple[str, ...] = tuple(CHAPTERS)
    seed: int = 1
    clock: float = 1.0


def chapters_of(text: str) -> tuple[str, ...]:
    """Return the chapters that a text such as ``00-06,90`` names, in the order of the course.

    Raises:
        InvalidValue: it names none, or one that has no script.
    """
    wanted: set[str] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        found = {one for one in CHAPTERS if first <= one <= (last or first)}
        if not found or not {first, last or first} <= CHAPTERS.keys():
            rule = f"must be chapters or ranges of {', '.join(CHAPTERS)}"
            raise InvalidValue("chapters", text, rule, "--chapters 00-06,90")
        wanted |= found
    return tuple(one for one in CHAPTERS if one in wanted)


def rehearse(
    settings: Settings,
    plan: Rehearsal,
    folder: Path,
    *,
    on_event: Callable[[str], None] = lambda _line: None,
) -> RehearsalReport:
    """Make a workshop, let the learners go through it, remove it; return what was found.

    Args:
        settings: the instructor's.
        plan: what is rehearsed.
        folder: a folder of its own, for the learners' kubeconfigs and records.
        on_event: called with a line for what happens.

    Raises:
        Conflict: another rehearsal runs on this cluster.
        QwenkitError: the workshop cannot be made.
    """
    settings = settings.model_copy(update={"transfer_image": ""})  # this machine keeps the slots
    with closing(connect(settings, NAME)) as cluster:
        if find(cluster, NAME) is not None:
            fix = f"when it is over: qwenkit workshop delete --name {NAME.name}"
            why = "another rehearsal runs, or one was killed"
            raise Conflict(f"the workshop {NAME.name} is there already", why, fix)
    counted, began = _requests(settings), time.monotonic()
    made = create(settings, NAME, [""] * plan.participants, plan.gpu_slots)
    on_event(str(made).splitlines()[0])
    class_ = _Class(settings, plan, made.workshop, on_event)
    try:
        with class_.surroundings(folder):
            class_.go()
        class_.settle()
        billed = bill(settings, NAME)
    finally:
        left = delete(settings, NAME)
    seconds, after = time.monotonic() - began, _requests(settings)
    return RehearsalReport(
        participants=plan.participants,
        gpu_slots=plan.gpu_slots,
        seed=plan.seed,
        clock=plan.clock,
        seconds=round(seconds, 3),
        passages=tuple(class_.passages),
        slips=class_.slips,
        api_per_s=None if counted is None or after is None else (after - counted) / seconds,
        gateway_per_s=class_.sent / seconds,
        gpu_s={one.id: round(class_.pods.seconds(one.namespace), 3) for one in class_.people},
        bill=billed,
        pods=len(class_.pods.held),
        leaks=(*left.leaks.found, *([str(left.error)] if left.error else [])),
    )


class _Class:
    """The learners of a rehearsal, and what is counted while they work."""

    def __init__(
        self,
        settings: Settings,
        plan: Rehearsal,
        workshop: Description,
        on_event: Callable[[str], None],
    ) -> None:
        self.plan, self.workshop, self.people = plan, workshop, workshop.participants
        self.on_event = on_event
        self.passages: list[Passage] = []
        self.slips = {"made": 0, "refused": 0}
        self.sent = 0
        self.pods = PodHours()
        self.room = Room.connect(settings, workshop.name)
        self._keeper = Keeper(self.room)
        self._lock, self._stopped = threading.Lock(), threading.Event()

    @contextmanager
    def surroundings(self, folder: Path) -> Iterator[None]:
        """Give each learner a kubeconfig, keep the slots, and watch the pods."""
        files = [Path(one) for one in os.environ.get("KUBECONFIG", "").split(os.pathsep) if one]
        for who in self.people:
            files.append(folder / f"{who.id}.kubeconfig")
            write_private(files[-1], access(self.room.cluster, self.workshop, who).kubeconfig)
        before = {name: os.environ.get(name) for name in ("KUBECONFIG", RECORD)}
        os.environ["KUBECONFIG"] = os.pathsep.join(map(str, files))
        os.environ[RECORD] = str(folder / "progress.json")
        helpers = [
            threading.Thread(
                target=self._keeper.run, args=(lambda s: self._stopped.wait(min(s, _KEEPS_S)),)
            ),
            threading.Thread(target=self._watch),
        ]
        for helper in helpers:
            helper.start()
        try:
            yield
        finally:
            self._stopped.set()
            for helper in helpers:
                helper.join()
            for name, value in before.items():
                os.environ.pop(name)
                os.environ.update({name: value} if value is not None else {})

    def go(self) -> None:
        """Let all learners go through their chapters at the same time."""
        threads = [
            threading.Thread(target=self._learn, args=(who, number), daemon=True)
            for number, who in enumerate(self.people)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def settle(self) -> None:
        """Let the ledger see that the last pods are gone, those of a broken chapter in a minute."""
        for _ in range(60):
            if not self.pods.look(self.room.cluster):
                break
            time.sleep(_LOOK_S)
        self._keeper.turn()

    def _learn(self, who: Participant, number: int) -> None:
        plan, settings = self.plan, Settings(**self.workshop.parameters(who))
        temper = Temper.of(plan.seed, number, plan.chapters)
        for chapter in plan.chapters:
            if self._stopped.wait(temper.pause_s(chapter, plan.clock)):
                return
            passage = self._pass(Student(settings, plan.clock), who, chapter, temper)
            with self._lock:
                self.passages.append(passage)
            self.on_event(f"{who.id}: chapter {chapter}, {passage.error or 'passed'}")

    def _pass(self, student: Student, who: Participant, chapter: str, temper: Temper) -> Passage:
        """Go through one chapter; what breaks is kept, and the learner goes on with the next."""
        began, error = time.monotonic(), ""
        try:
            if chapter in NEED_GPU:
                student.hold()
            if chapter in temper.slips:
                self._slip(student.settings, chapter)
            CHAPTERS[chapter](student)
            exercises(student.settings, chapter)
            if chapter in GIVE_BACK and not temper.forgets_slot:
                student.give_back()
        except QwenkitError as failure:
            error = f"{failure.what}: {failure.why}"
        except Exception as failure:  # whatever it is, the others go on, and the report has it
            error = f"{type(failure).__name__}: {failure}"
        with self._lock:
            self.sent += student.sent
        seconds = round(time.monotonic() - began, 3)
        return Passage(who.id, chapter, seconds, round(student.waited_s, 3), error)

    def _slip(self, settings: Settings, chapter: str) -> None:
        with self._lock:
            self.slips["made"] += 1
        try:
            SLIPS[chapter](settings)
        except QwenkitError:
            with self._lock:
                self.slips["refused"] += 1

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            try:
                self.pods.look(self.room.cluster)
            except QwenkitError as error:
                self.on_event(f"the pods cannot be listed: {error.why}")


def _requests(settings: Settings) -> float | None:
    """Return how many requests the API server has answered since it began; None if it is silent."""
    with closing(connection(settings.context)) as server:
        try:
            reply = server.send(Request("GET", "/metrics"), limit_s=10)
            found = parse(reply.body.decode("utf-8", "replace"))
        except (NoAnswer, QwenkitError):
            return None
    counts = [value for name, value in found.items() if name.startswith("apiserver_request_total")]
    return sum(counts) if reply.status == 200 else None
