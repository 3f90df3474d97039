"""``qwenkit calibrate`` without measuring, and the card that it writes, wherever a GPU is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from places import DATA

from qwenkit.capacity.calibration.cards import gpu_named, with_path
from qwenkit.capacity.gpu import find_gpu
from qwenkit.cli import main
from qwenkit.errors import InvalidValue, SettingsError
from qwenkit.settings import Settings

POINTS = DATA / "gpu" / "h200-vllm-0.26.json"
Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command in an empty folder; return its exit code and its JSON."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["qwenkit", *words, "--json"])
        code = main.main()
        return code, json.loads(capsys.readouterr().out)

    return run


def calibrated(run: Run, *more: str) -> tuple[int, Any]:
    return run("calibrate", "--load-results", str(POINTS), "--name", "mine", *more)


def test_a_card_of_points_is_used_by_its_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, answer = calibrated(run)
    assert (code, answer["gpu"], answer["points"]) == (0, "card:mine", 46)
    assert answer["errors"]["decode"] < 0.06
    assert 0 < answer["error"] < 0.25
    _, again = run("calibrate", "--load-results", answer["card"], "--name", "again")
    assert again["errors"] == answer["errors"]  # its file holds the points
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    settings = Settings(gpu="card:mine")
    gpu = settings.hardware
    base = find_gpu("H200")
    assert (gpu.name, gpu.label, gpu.error) == ("card:mine", base.label, answer["error"])
    assert gpu.speed != base.speed
    monkeypatch.chdir(tmp_path.parent)  # a run's notebooks are elsewhere
    assert settings.hardware == gpu
    assert settings.sizes()["gpu"] == gpu
    code, plan = run("plan", "--set", f"gpu={with_path(settings.gpu)}", "--clients", "2")
    assert (code, plan["gpu"]) == (0, "card:mine")


def test_no_card_is_overwritten_unless_that_is_wanted(run: Run) -> None:
    assert calibrated(run)[0] == 0
    code, answer = calibrated(run)
    assert code == 2
    assert "--replace" in answer["fix"]
    assert calibrated(run, "--replace")[0] == 0


@pytest.mark.parametrize("name", ["../up", ".hidden", "a b", "", "x" * 101])
def test_a_name_that_is_no_file_s_is_refused(run: Run, name: str) -> None:
    code, answer = run("calibrate", "--load-results", str(POINTS), f"--name={name}/")
    assert (code, answer["error"]) == (2, "InvalidValue")


def test_a_card_that_is_not_there_or_damaged_is_told_with_those_that_are(
    run: Run, tmp_path: Path
) -> None:
    calibrated(run)
    (tmp_path / "cards" / "torn.json").write_text('{"name": "torn", "speed": {"linear": -1')
    for name in ("none", "torn", "../cards/mine"):
        with pytest.raises(InvalidValue, match="qwenkit calibrate") as error:
            gpu_named(f"card:{name}")
        assert "card:mine" in error.value.why
        with pytest.raises(SettingsError, match="card:mine"):
            _ = Settings(gpu=f"card:{name}").hardware
    mine = tmp_path / "cards" / "mine.json"
    mine.write_text(mine.read_text().replace('"linear": ', '"linear": -'))
    with pytest.raises(InvalidValue, match="linear"):
        gpu_named("card:mine")


def test_records_of_a_load_give_few_points_and_a_wide_band(run: Run, tmp_path: Path) -> None:
    row = {"scheduled_s": 0.0, "first_byte_s": 0.2, "status": 200, "outcome": "ok", "why": ""}
    rows = [
        row
        | {"number": n, "sent_s": n * 4.0, "first_s": n * 4.0 + 0.3, "last_s": n * 4.0 + 3.2}
        | {"end_s": n * 4.0 + 3.3, "token_s": [n * 4.0 + 0.3 + 0.1 * t for t in range(30)]}
        | {"prompt_tokens": 512, "tokens": 30}
        for n in range(4)
    ]
    records = tmp_path / "records.json"
    records.write_text(json.dumps({"clock": 1, "requests": rows}))
    code, answer = run("calibrate", "--load-results", str(records), "--set", "gpu=A10")
    assert (code, answer["gpu"]) == (0, "card:a10-qwen-7b-chat-int8")
    assert answer["points"] == 3
    assert answer["error"] >= 0.25
    records.write_text('{"clock": 1, "requests": [{"number": 1}]}')
    assert run("calibrate", "--load-results", str(records), "--replace")[0] == 2
    records.write_text("[]")
    assert run("calibrate", "--load-results", str(records), "--replace")[0] == 2


def test_points_of_another_card_are_not_mixed_in(run: Run, tmp_path: Path) -> None:
    other = json.loads(POINTS.read_text())
    other["card"] = {"name": "A10"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    code, told = calibrated(run, "--load-results", "other.json")
    assert (code, told["error"]) == (2, "InvalidValue")
    assert "same card" in told["why"]
    assert calibrated(run, "--load-results", str(POINTS))[0] == 0


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"data": [{"object": "model"}]}'])
def test_a_server_that_is_no_vllm_is_told(run: Run, answer: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever).start()
        code, told = run("calibrate", "--url", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert (code, told["error"]) == (1, "NotFound")
