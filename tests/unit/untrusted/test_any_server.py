"""A server that misbehaves: whatever it does, the public functions raise errors of ours alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import typer
from cluster_api import OURS, Api, connected, final, key, obj
from raw_server import PLAIN, answering, loaded, refusal, stream

import qwenkit
from qwenkit import Settings, steps
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.watching import ClusterWatch
from qwenkit.errors import InvalidValue, NotFound, QwenkitError
from qwenkit.errors.boundary import typed

ODD = (None, 7, -1, 1e300, "x", "2026-13-45", True, [], {}, [None], [[]], ["x"], {"a": None})
SETTINGS = Settings(timeout_s=1, gateway="http://127.0.0.1:9", storage="pvc")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*path, name))


class OddApi(Api):
    """Answers of a cluster with a ready Service; in one of three a value is of another type."""

    def __init__(self, seed: object) -> None:
        super().__init__()
        self._random = random.Random(repr(seed))
        for each in final("happy"):
            if each["kind"] == "Service":
                each["metadata"]["labels"] = OURS
            self.objects[key(each)] = each
        gpus = {"allocatable": {"nvidia.com/gpu": "3"}, "capacity": {"nvidia.com/gpu": "3"}}
        self.add(obj("v1/Node", "gpu-1", status=gpus, spec={}))
        self.add(obj("v1/PersistentVolumeClaim", "llm-model", status={"phase": "Bound"}, spec={}))

    def _route(self, *asked: Any) -> Any:
        status, answer = super()._route(*asked)
        # Answers that are no objects at all are repeated, and have their own test.
        inside = [path for path in places(answer) if {"spec", "status", "data"} & {*path}]
        inside += [path for path in places(answer) if {"labels", "annotations"} & {*path}]
        if status != 200 or not inside or self._random.random() > 1 / 3:
            return status, answer
        answer = deepcopy(answer)
        *way, last = self._random.choice(inside)
        parent = answer
        for step in way:
            parent = parent[step]
        parent[last] = self._random.choice(ODD)
        return status, answer


def watched(cluster: Cluster) -> object:
    with ClusterWatch(cluster, "qwen", every_s=0.01) as watch:
        return watch.newest.served


CLUSTER: dict[str, Callable[[Cluster], object]] = {
    "explain": lambda _: str(steps.explain(SETTINGS)),
    "status": lambda _: str(steps.status(SETTINGS)),
    "doctor": lambda _: str(steps.doctor(SETTINGS)),
    "find_occupants": lambda _: steps.find_occupants(SETTINGS),
    "find_server": lambda _: steps.find_server(SETTINGS),
    "audit": lambda _: steps.audit(SETTINGS),
    "cold_start": lambda cluster: str(qwenkit.cold_start(cluster, "qwen")),
    "live_scaling": lambda cluster: qwenkit.live_scaling(cluster, "qwen"),
    "wait_bound": lambda cluster: qwenkit.wait_bound(cluster, "llm-model", timeout_s=0.1),
    "watch": watched,
}


@pytest.mark.parametrize("name", CLUSTER)
def test_a_kubernetes_api_of_other_types(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api()
    with connected(api, tmp_path, monkeypatch) as cluster:
        for seed in range(12):
            odd = OddApi((name, seed))
            monkeypatch.setattr(api, "_route", odd._route)
            with suppress(QwenkitError):
                CLUSTER[name](cluster)


def test_what_nobody_foresaw_is_an_error_of_ours_that_says_where() -> None:
    @typed
    def read(answer: dict[str, Any]) -> object:
        return answer["status"]["phase"]

    assert read({"status": {"phase": "Bound"}}) == "Bound"
    with pytest.raises(QwenkitError, match="read met what it cannot read") as caught:
        read({"status": 7})
    assert "TypeError: 'int' object is not subscriptable" in caught.value.why
    assert "test_any_server.py:" in caught.value.why
    with pytest.raises(TypeError, match="missing 1 required"):
        read()
    assert typed(lambda: qwenkit.Settings).__name__ == "<lambda>"
    for error in (NotFound("x"), InvalidValue("a", 1, "rule"), KeyboardInterrupt(), typer.Abort()):

        @typed
        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            fail()


def test_every_function_that_users_call_is_at_the_edge() -> None:
    front = [getattr(qwenkit, name) for name in qwenkit.__all__]
    own = [
        each for each in vars(steps).values() if getattr(each, "__module__", "") == "qwenkit.steps"
    ]
    calls = [
        each
        for each in (*front, *own)
        if isinstance(each, FunctionType) and not each.__name__.startswith("_")
    ]
    assert len(calls) > 30
    assert [each.__name__ for each in calls if not hasattr(each, "__wrapped__")] == []


WHOLE = refusal("200 OK", b'{"choices": [{"message": {"content": "west lake"}}]}')


@pytest.mark.parametrize("answer", [WHOLE, stream(*PLAIN)], ids=["whole", "stream"])
def test_a_gateway_that_closes_or_spoils_its_answer_anywhere(answer: bytes) -> None:
    spoiled = [answer[:at] for at in range(0, len(answer), 37)]
    spoiled += [answer[:at] + b"\0\xff{" + answer[at + 3 :] for at in range(0, len(answer), 41)]
    for one in spoiled:
        with answering(one) as server:
            server.timeout_s = 1
            for call in (
                lambda: server.ask("x"),
                lambda: list(server.stream("x")),
                lambda: server.get("/metrics"),
                server.without_host,
            ):
                with suppress(QwenkitError):
                    call()
            done, said = loaded(server)
            assert (done.outcome == "ok") == (not said)
