"""What a terminal shows and what a program reads."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from qwenkit import __version__
from qwenkit.cli.console import can_ask, emit, fail, plain, progress_line, stderr_lines, text
from qwenkit.cli.main import main
from qwenkit.cli.sandbox import described
from qwenkit.errors import NotFound, SettingsError
from qwenkit.sandbox.state_files import SandboxOptions, SandboxState


@dataclass(frozen=True)
class Plain:
    name: str
    sizes: tuple[int, ...]
    where: Path = Path("runs/1")


@dataclass(frozen=True)
class Spoken:
    seconds: float

    def __str__(self) -> str:
        return f"took {self.seconds:g} s"


class Told:
    def to_dict(self) -> dict[str, object]:
        return {"inner": Plain("x", (1,)), "set": {"only"}}


def test_programs_get_json_of_anything(capsys: pytest.CaptureFixture[str]) -> None:
    emit(Plain("杭州", (1, 2)), as_json=True)
    out = capsys.readouterr().out
    assert "杭州" in out
    assert json.loads(out) == {"name": "杭州", "sizes": [1, 2], "where": "runs/1"}
    assert plain(Told()) == {
        "inner": {"name": "x", "sizes": [1], "where": "runs/1"},
        "set": ["only"],
    }
    assert plain({1: None, "a": [True, 1.5]}) == {"1": None, "a": [True, 1.5]}


def test_people_get_an_answer_s_own_words_or_a_line_a_field() -> None:
    assert text(Spoken(1.5)) == "took 1.5 s"
    assert text(Plain("x", ())).splitlines() == ["name: x", "sizes: ()", "where: runs/1"]
    assert text({"removed": Spoken(2)}) == "removed: took 2 s"
    assert text("words") == "words"


def test_an_error_goes_to_stderr_and_as_json_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(SettingsError("x", 1, "must be text"), as_json=True) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"] == "SettingsError"
    assert shown.err.startswith("error: x: 1 is not valid")
    assert fail(NotFound("no bucket", where=Path("a")), as_json=False) == 1
    assert capsys.readouterr().out == ""
    fail(NotFound("no bucket", where=Path("a")), as_json=True)
    assert json.loads(capsys.readouterr().out)["where"] == "a"


def test_what_happens_is_said_beside_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    stderr_lines(quiet=False)(Spoken(1))
    stderr_lines(quiet=True)("nothing")
    assert capsys.readouterr() == ("", "took 1 s\n")


def test_progress_off_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_line(str) as show:
        for state in ("first", "second", "third"):
            show(state)
    assert capsys.readouterr() == ("", "first\n")


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    interrupt = KeyboardInterrupt()
    interrupt.add_note("repeat the same upload")
    with pytest.raises(typer.Exit) as ended, progress_line(str):
        raise interrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr() == ("", "interrupted\nrepeat the same upload\n")


def test_lines_for_a_terminal_that_is_closed_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    with open(slave, "w", buffering=1) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        show = stderr_lines(quiet=False)
        show("seen")
        assert os.read(master, 100) == b"seen\r\n"
        os.close(master)
        show("not seen")
        with progress_line(str) as progress:
            progress("not seen")
        with suppress(OSError):
            terminal.close()


def test_nobody_can_be_asked_through_a_closed_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert not can_ask()


def test_an_interrupted_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qwenkit.settings.Settings.load", interrupted)
    monkeypatch.setattr("sys.argv", ["qwenkit", "deploy"])
    assert main() == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("argv", [["query"], ["deploy", "--nope"], ["nope"], ["upload", "a"]])
def test_a_usage_error_is_json_too(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["qwenkit", *argv, "--json"])
    assert main() == 2
    shown = capsys.readouterr()
    said = json.loads(shown.out)
    assert said["error"] == "UsageError"
    assert said["what"]
    assert "Usage" in shown.err


def test_a_folder_with_a_blank_is_quoted_for_the_shell() -> None:
    ports = dict.fromkeys(("api", "gateway", "oss", "hub"), "http://127.0.0.1:9")
    state = SandboxState(1, SandboxOptions(), seconds=1, **ports)
    last = described(state, Path("/my sandboxes/a")).splitlines()[-1]
    assert last == """  next: eval "$(qwenkit sandbox env --root '/my sandboxes/a')\""""


def test_the_version_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["qwenkit", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"qwenkit {__version__}\n"
