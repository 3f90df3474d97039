"""At a terminal, a workshop is removed only if a person agrees."""

from __future__ import annotations

import io
import sys

import pytest

from qwenkit.cli import main


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_at_the_terminal_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    monkeypatch.setattr(sys, "argv", ["qwenkit", "workshop", "delete", "--name", "ws"])
    assert main.main() == 1
    shown = capsys.readouterr().err
    assert "Remove workshop ws and all that its participants made?" in shown
    assert shown.endswith("nothing was changed\n")
