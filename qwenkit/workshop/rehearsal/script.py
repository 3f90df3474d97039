"""The chapters of the course as a learner's script: the notebooks' library calls, no kernels.

Each chapter has one mistake that learners make; the course must refuse it and say what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing

from qwenkit.capacity.search.autoscalers import compare_autoscalers
from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.simulation.traffic import ClosedLoop, bursts
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.deploy import wait_bound
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
# What a learner who has read the chapter answers; the others' exercises stay open.
_ANSWERS = {"00": "activator", "02": "{mount}/config.json", "03": 9728, "05": 4}
_SAMPLING = {"max_tokens": 10, "temperature": 0.7, "top_p": 0.9, "seed": 10}


def exercises(settings: Settings, chapter: str) -> None:
    """Answer a chapter's first exercise, and check all of it: the board shows what passes."""
    if right := _ANSWERS.get(chapter):
        value = str(right).format(mount=settings.mount_path) if isinstance(right, str) else right
        answer(f"{chapter}.1", value, settings)
    check_all([chapter], settings)


def _preflight(settings: Settings) -> int:
    doctor(settings).require()
    return 0


def _weights(settings: Settings) -> int:
    wait_bound(Cluster.connect(settings), settings.volume, timeout_s=settings.timeout_s)
    return 0


def _storage(settings: Settings) -> int:
    apply(settings, render(settings)[:-1])
    return _weights(settings)


def _deploy(settings: Settings) -> int:
    deploy(settings)
    return _asked(settings, 1)


def _query(settings: Settings) -> int:
    return _asked(settings, 2)


def _autoscaling(settings: Settings) -> int:
    cluster = Cluster.connect(settings)
    with closing(find_server(settings)) as server:
        expected = predict(settings, cluster, server)
    expected.recommended()
    own, lengths = expected.modelled.at(clock=1), expected.traffic.lengths
    compare_autoscalers(
        own,
        lambda seed: bursts(0.2, 1, 300, every_s=100, burst_s=20, lengths=lengths, seed=seed),
        objective=Objective(ttft_p95_s=settings.ttft_objective_s),
        gpus=1,
        seeds=(0,),
    )
    return 0


def _load_test(settings: Settings) -> int:
    wake(settings)
    clock = find_server(settings).ask(settings.prompt, max_tokens=1).clock
    seconds = _LOAD_S / clock
    people = ClosedLoop(((0.0, _PEOPLE), (seconds, 0)))
    seen = start_test(settings, people).result(at_most=1, timeout_s=settings.seconds("scale"))
    if errors := seen.load.summary()["errors"]:
        raise Rejected(f"requests of the load failed: {errors}", _WHY, "ask: qwenkit explain")
    return 2 + len(seen.load.requests)


def _teardown(settings: Settings) -> int:
    teardown(settings)
    audit(settings)
    return 0


def _asked(settings: Settings, times: int) -> int:
    with closing(find_server(settings)) as server:
        for _ in range(times):
            server.ask(settings.prompt, **_SAMPLING)
    return times


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
    "90": lambda settings: teardown(settings.model_copy(update={"namespace": "kube-system"})),
}
"""Each makes a mistake, and must raise a ``QwenkitError``."""

CHAPTERS: Mapping[str, Callable[[Settings], int]] = {
    "00": _preflight,
    "01": _weights,
    "02": _storage,
    "03": _deploy,
    "04": _query,
    "05": _autoscaling,
    "06": _load_test,
    "90": _teardown,
}
"""Each returns how many requests it sent to the gateway."""
