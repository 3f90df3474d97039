"""The board on the sandbox: what participants share, what it explains, what it costs the server."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from real_sandbox import RealSandbox, eventually

from qwenkit import Settings, Workshop, check, render
from qwenkit.cli.main import main
from qwenkit.cluster.gpu_slot import SlotNews
from qwenkit.exercises.checking import answer
from qwenkit.workshop import board_reader, sheets
from qwenkit.workshop.board_reader import REFRESH_S, BoardReader
from qwenkit.workshop.create import create
from qwenkit.workshop.names import WorkshopName

NAME = WorkshopName("ws")
NAMES = ["<img src=x onerror=alert(1)>", "李雷", ""]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    create(settings, NAME, NAMES, 1)
    return settings


def requests(sandbox: RealSandbox) -> int:
    """Return how many requests the API server has answered."""
    text = sandbox.kubectl("get", "--raw", "/metrics")
    return sum(map(int, re.findall(r"^apiserver_request_total\{.*\} (\d+)$", text, re.M)))


def test_what_a_participant_passes_is_on_the_board(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(sheets.write(settings, NAME, tmp_path / "sheets").folder) / "p02"
    reader = BoardReader.connect(settings, NAME)
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(own / "kubeconfig"))
        theirs = Settings.load(own / "params.yaml")
        answer("05.1", 4, theirs)
        assert check("05.1", theirs).verdict.kind == "passed"
    row = next(row for row in reader.read().rows if row.id == "p02")
    assert (row.name, row.progress.chapter, row.progress.passed) == ("李雷", "05", 1)


def test_a_note_and_a_change_of_the_slot_are_printed_once(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    news = SlotNews(Workshop(settings, "ws").participant("p02").settings)
    news.look()
    assert capsys.readouterr().out == ""
    Workshop(settings, "ws").note("Lunch at noon")
    again = SlotNews(news.settings)
    again.look()
    again.look()
    assert capsys.readouterr().out.count("a note to all: Lunch at noon\n") == 1


def test_a_check_does_not_wait_for_a_board_that_cannot_be_written(settings: Settings) -> None:
    nowhere = {"workshop": "none", "namespace": "ws-p99"}
    assert check("05.1", settings.model_copy(update=nowhere)).verdict.kind == "todo"


def test_services_are_explained_in_turn_at_two_requests_a_second(
    settings: Settings, sandbox: RealSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = render(settings)[-1]
    for id_ in ("p01", "p03"):  # without the volume that they mount
        sandbox.kubectl("apply", "-n", f"ws-{id_}", "-f", "-", stdin=_bare(service))
    now = [time.monotonic()]
    monkeypatch.setattr(board_reader.time, "monotonic", lambda: now[0])
    reader = BoardReader.connect(settings, NAME)
    reader.read()
    before, looks = requests(sandbox), 20
    for _ in range(looks):
        now[0] += REFRESH_S
        reader.read()
    assert requests(sandbox) - before <= 2 * REFRESH_S * looks

    def explained() -> bool:
        now[0] += REFRESH_S
        late = [row.service for row in reader.read().rows if row.service.service]
        return len(late) == 2 and all(one.explained for one in late)

    eventually(explained)


def _bare(service: dict[str, object]) -> dict[str, object]:
    return {key: service[key] for key in ("apiVersion", "kind", "spec")} | {
        "metadata": {key: service["metadata"][key] for key in ("name", "labels")}
    }


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("words", [(), ("--json",), ("--once",)])
def test_a_terminal_shows_it_once_where_nothing_can_be_redrawn(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["qwenkit", "workshop", "board", "--name", "ws", *words])
    assert main() == 0
    out = capsys.readouterr().out
    assert "p01" in out
    assert "\x1b" not in out


@pytest.mark.long
def test_thirty_participants_are_read_within_a_second(settings: Settings) -> None:
    create(settings, NAME, [""] * 30, 9)
    reader = BoardReader.connect(settings, NAME)
    reader.read()
    began = time.process_time()
    found = reader.read()
    found.html()
    assert time.process_time() - began < 1
    assert len(found.rows) == 30
