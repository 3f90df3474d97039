"""The chapters of the course as a learner's script: the notebooks' library calls, no kernels.

Each chapter has one mistake that learners make; the course must refuse it and say what to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

from qwenkit.capacity.search.autoscalers import compare_autoscalers
from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.simulation.traffic import ClosedLoop, bursts
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.deploy import wait_bound
from qwenkit.cluster.gpu_slot import MINUTES, give_back, hold
from qwenkit.cluster.kinds import PVC
from qwenkit.errors import Rejected
from qwenkit.exercises.checking import answer, check_all
from qwenkit.loadtest.prediction import predict
from qwenkit.loadtest.story import start_test, wake
from qwenkit.settings import Settings
from qwenkit.steps import apply, audit, deploy, doctor, find_server, render, teardown

_WHY = "one learner's small load must be answered"
# A load for one slot: two people, one GPU, a quarter of a minute of the target's clock.
_PEOPLE, _LOAD_S = 2, 15.0
_LEAST_MINUTES = 1.0  # the keeper and this machine do not run on the clock of the target
NEED_GPU = ("03", "04", "05", "06")  # the chapters in which a slot is held
GIVE_BACK = ("04", "06")  # and after which it is given back, if nothing is forgotten
# What a learner who has read the chapter answers; the others' exercises stay open.
_ANSWERS = {"00": "activator", "02": "{mount}/config.json", "03": 9728, "05": 4}
_SAMPLING = {"max_tokens": 10, "temperature": 0.7, "top_p": 0.9, "seed": 10}


@dataclass
class Student:
    """A learner at work: the settings, how fast the target's time runs, and what was counted."""

    settings: Settings
    clock: float
    sent: int = 0
    """Requests to the gateway."""
    waited_s: float = 0.0
    """For GPUs, in seconds of this machine."""

    def hold(self) -> None:
        """Hold a GPU slot, which is waited for."""
        began = time.monotonic()
        with closing(Cluster.connect(self.settings)) as cluster:
            hold(cluster, self.settings, minutes=max(MINUTES / self.clock, _LEAST_MINUTES))
        self.waited_s += time.monotonic() - began

    def give_back(self) -> None:
        """Give the slot back, if there is one."""
        with closing(Cluster.connect(self.settings)) as cluster:
            give_back(cluster)

    def ask(self, times: int) -> None:
        """Ask the served model."""
        with closing(find_server(self.settings)) as server:
            for _ in range(times):
                server.ask(self.settings.prompt, **_SAMPLING)
        self.sent += times


def exercises(settings: Settings, chapter: str) -> None:
    """Answer a chapter's first exercise, and check all of it: the board shows what passes."""
    if right := _ANSWERS.get(chapter):
        value = right.format(mount=settings.mount_path) if isinstance(right, str) else right
        answer(f"{chapter}.1", value, settings)
    check_all([chapter], settings)


def _preflight(student: Student) -> None:
    doctor(student.settings).require()


def _weights(student: Student) -> None:
    settings = student.settings
    with closing(Cluster.connect(settings)) as cluster:
        wait_bound(cluster, settings.volume, timeout_s=settings.timeout_s)


def _storage(student: Student) -> None:
    apply(student.settings, render(student.settings)[:-1])
    _weights(student)


def _deploy(student: Student) -> None:
    deploy(student.settings)
    student.ask(1)


def _query(student: Student) -> None:
    student.ask(2)


def _autoscaling(student: Student) -> None:
    settings = student.settings
    with closing(Cluster.connect(settings)) as cluster, closing(find_server(settings)) as server:
        expected = predict(settings, cluster, server)
    student.sent += 3
    expected.recommended()
    own, lengths = expected.modelled.at(clock=1), expected.traffic.lengths
    compare_autoscalers(
        own,
        lambda seed: bursts(0.2, 1, 300, every_s=100, burst_s=20, lengths=lengths, seed=seed),
        objective=Objective(ttft_p95_s=settings.ttft_objective_s),
        gpus=1,
        seeds=(0,),
    )


def _load_test(student: Student) -> None:
    settings = student.settings
    wake(settings)
    people = ClosedLoop(((0.0, _PEOPLE), (_LOAD_S / student.clock, 0)))
    seen = start_test(settings, people).result(at_most=1, timeout_s=settings.seconds("scale"))
    student.sent += 1 + len(seen.load.requests)
    if errors := seen.load.summary()["errors"]:
        raise Rejected(f"requests of the load failed: {errors}", _WHY, "ask: qwenkit explain")


def _teardown(student: Student) -> None:
    teardown(student.settings)
    audit(student.settings)


CHAPTERS: Mapping[str, Callable[[Student], None]] = {
    "00": _preflight,
    "01": _weights,
    "02": _storage,
    "03": _deploy,
    "04": _query,
    "05": _autoscaling,
    "06": _load_test,
    "90": _teardown,
}


def _elsewhere(settings: Settings) -> None:
    other = settings.model_copy(update={"namespace": "default"})
    apply(other, render(other))


def _wrong_card(settings: Settings) -> None:
    deploy(settings.model_copy(update={"dtype": "bfloat16", "gpu": "V100-16"}))


def _wrong_model(settings: Settings) -> None:
    with closing(find_server(settings)) as server:
        server.ask(settings.prompt, model="another-model")


def _too_long(settings: Settings) -> None:
    with closing(find_server(settings)) as server:
        server.ask(settings.prompt, max_tokens=10 * settings.max_model_len)


SLIPS: Mapping[str, Callable[[Settings], object]] = {
    "00": lambda settings: doctor(settings.model_copy(update={"context": "sandbx"})).require(),
    "01": lambda settings: Cluster.connect(settings).get(PVC, "llm-modle"),
    "02": _elsewhere,
    "03": _wrong_card,
    "04": _wrong_model,
    "05": lambda settings: answer("5.1", 4, settings),
    "06": _too_long,
    "90": lambda settings: teardown(settings.model_copy(update={"namespace": "default"})),
}
"""Each makes a mistake, and must raise a ``QwenkitError``."""
