"""A load and its watch run in the background, are shown, and leave nothing running."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import inference_server
import pytest
from cluster_api import KSVC, Api, connected, obj, status
from inference_server import HOST, Vllm

from qwenkit.capacity.simulation.traffic import ClosedLoop
from qwenkit.cli.live_load import watch_load
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.wait import Transition
from qwenkit.errors import WaitTimeout
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import RunningLoad, start_load
from qwenkit.loadtest.moment import Moment
from qwenkit.loadtest.running import LoadTest
from qwenkit.settings import Settings
from qwenkit.widgets import live_load
from qwenkit.widgets.live_load import LiveLoad
from qwenkit.widgets.live_output import LiveWait

LABELS = {"serving.knative.dev/service": "qwen", "serving.knative.dev/revision": "r"}
Start = Callable[[float], Callable[[], RunningLoad]]


@pytest.fixture
def api() -> Api:
    """A service with one ready pod, whose port nobody can reach."""
    api = Api()
    api.add(obj(KSVC, "qwen", status={"latestReadyRevisionName": "r"}))
    containers = [{"name": "user-container", "ports": [{"containerPort": 8080}]}]
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    spec = {"containers": containers, "nodeName": "n"}
    api.add(obj("v1/Pod", "pod", labels=LABELS, spec=spec, status=ready))
    return api


@pytest.fixture
def cluster(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with connected(api, tmp_path, monkeypatch) as cluster:
        yield cluster


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that makes a load of so many seconds, of a server that answers slowly."""
    vllm = Vllm()
    vllm.delay_s = 0.02
    with inference_server.serving(vllm) as url:
        server = Server(url, HOST, model="qwen")
        yield lambda seconds: lambda: start_load(server, ClosedLoop(((0, 2), (seconds, 0))))
        for thread in threading.enumerate():
            if thread.name.startswith("qwenkit"):
                thread.join(10)
                assert not thread.is_alive(), thread.name


def test_a_test_is_looked_at_and_ends_with_a_timeline(cluster: Cluster, start: Start) -> None:
    ended: list[object] = []
    test = LoadTest(cluster, "qwen", start(0.5), every_s=0.1)
    test.at_end(ended.append)
    while not test.load.done:
        now = test.snapshot()
        assert (now.replicas.ready, now.others, now.in_flight <= 2) == (1, 0, True)
        time.sleep(0.05)
    seen = test.result()
    assert now.sent > 2
    assert (seen.start_ready, seen.peak_ready, seen.last.served.ready) == (1, 1, 1)
    assert seen.start_s < 0
    assert ended == [seen]
    assert test.result().load == seen.load
    assert ended == [seen]


def test_metrics_that_are_forbidden_are_asked_for_once(
    cluster: Cluster, api: Api, start: Start
) -> None:
    refusal = status(403, "Forbidden", "pods is forbidden: cannot get pods/proxy")
    api.refuse = lambda _, path, __: refusal if "/pods/" in path and "/proxy/" in path else None
    seen = LoadTest(cluster, "qwen", start(0.5), every_s=0.05).result()
    assert seen.unknown["vLLM"].startswith("pods is forbidden")
    assert "autoscaler" in seen.unknown
    assert seen.served_by == {}
    assert len([path for _, path, *_ in api.requests if "pods/pod" in path]) == 1


def test_the_watch_goes_on_until_the_replicas_have_ended(
    cluster: Cluster, api: Api, start: Start
) -> None:
    test = LoadTest(cluster, "qwen", start(0.1), every_s=0.05)
    threading.Timer(0.6, lambda: api.objects.pop(("v1/Pod", "default", "pod"))).start()
    seen = test.result(at_most=0, timeout_s=60)
    assert (seen.start_ready, seen.last.served.ready) == (1, 0)
    assert seen.end_s > seen.load.seconds + 0.1
    assert test.waits_for == ""


def test_replicas_that_stay_are_an_error_that_ends_the_watch(
    cluster: Cluster, start: Start
) -> None:
    test = LoadTest(cluster, "qwen", start(0.1), every_s=0.05)
    ended: list[object] = []
    test.at_end(ended.append)
    with pytest.raises(WaitTimeout, match="at most 0 replicas left: not after") as caught:
        test.result(at_most=0, timeout_s=0.3)
    assert "ready 1" in caught.value.why
    assert len(ended) == 1


def test_stop_ends_load_and_wait(cluster: Cluster, start: Start) -> None:
    test = LoadTest(cluster, "qwen", start(60), every_s=0.05)
    threading.Timer(0.3, test.stop).start()
    seen = test.result(at_most=0, timeout_s=60)
    assert seen.load.seconds < 30
    assert {request.outcome for request in seen.load.requests} == {"ok", "cancelled"}


def test_an_interrupt_ends_it_and_keeps_what_was_measured(cluster: Cluster, start: Start) -> None:
    test = LoadTest(cluster, "qwen", start(60), every_s=0.05)
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    assert test.result(at_most=0).load.summary()["ok"] > 0


def test_a_load_that_cannot_start_leaves_no_watch(cluster: Cluster, start: Start) -> None:
    def fails() -> RunningLoad:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        LoadTest(cluster, "qwen", fails)
    start(1)  # its end looks for threads


def test_the_live_view_moves_and_ends_as_a_picture(cluster: Cluster, start: Start) -> None:
    test = LoadTest(cluster, "qwen", start(0.5), every_s=0.1)
    live = LiveLoad(test, Settings())
    live._ipython_display_()
    first, _ = live._look()
    assert all(name in first for name in ("in flight", "waiting in vLLM", "GPU-seconds", "<svg"))
    assert "an example price" in first
    box = live._output._widget
    assert [type(child).__name__ for child in box.children] == ["HTML", "Button"]
    test.result()
    shown = live._output._repr_mimebundle_()
    assert "<svg" in shown["text/html"]
    assert repr(live) == shown["text/plain"]
    assert "ready replicas 1 → 1 → 1; TTFT p50 " in shown["text/plain"]
    assert "vLLM: no metrics" in shown["text/plain"]
    assert box.comm is None  # no widget is left


def test_the_live_view_ends_with_a_load_that_fails(
    cluster: Cluster, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = LoadTest(cluster, "qwen", start(0.1))
    live = LiveLoad(test, Settings())
    live._ipython_display_()
    monkeypatch.setattr(test.load, "result", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        test.result()
    assert live._output._widget is None


def test_the_live_views_button_stops_the_load(cluster: Cluster, start: Start) -> None:
    test = LoadTest(cluster, "qwen", start(60), every_s=0.1)
    live = LiveLoad(test, Settings())
    live._ipython_display_()
    button = live._output._widget.children[1]
    button.click()
    assert (button.disabled, button.description) == (True, "Stopping")
    assert test.result().load.seconds < 30


def test_the_live_view_of_half_an_hour_is_bounded(
    cluster: Cluster, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, float]] = []
    monkeypatch.setattr(
        live_load, "draw_load", lambda m, *_, **__: drawn.append((len(m), m[0].at_s))
    )
    test = LoadTest(cluster, "qwen", start(0.1))
    live = LiveLoad(test, Settings())
    for second in range(1800):
        live._chart(Moment(float(second)))
    assert max(count for count, _ in drawn) <= 601
    assert {first for _, first in drawn} == {0.0}
    test.result()


def test_without_a_front_end_there_is_the_picture(
    cluster: Cluster, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    test = LoadTest(cluster, "qwen", start(0.1))
    live = LiveLoad(test, Settings())
    live._ipython_display_()
    test.result()
    assert set(live._output._repr_mimebundle_()) == {"text/html", "text/plain"}


def test_a_wait_shows_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveWait("one replica ready") as shown:
        shown(Transition(0.0, "desired 1, <ready> 0"))
        html, text = shown._output._look()
    assert text.startswith("one replica ready: desired 1, <ready> 0, 0 s")
    assert "&lt;ready&gt;" in html
    assert capsys.readouterr().out.startswith("one replica ready: waiting, 0 s")
    assert repr(shown._output).startswith("one replica ready: desired 1, <ready> 0, ")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [False, True])
def test_in_a_terminal_figures_change_in_place(
    cluster: Cluster, start: Start, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(Cluster, "connect", lambda _: cluster)
    monkeypatch.setattr("qwenkit.cli.live_load._LINE_S", 0.2)
    stderr: Any = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    result = watch_load(Settings(), start(0.6))
    assert result.summary()["ok"] > 0
    said = stderr.getvalue()
    assert "1 ready of 1 desired" in said
    assert ("\x1b[2K" in said) is terminal
    assert ("answers: " in said) is not terminal
