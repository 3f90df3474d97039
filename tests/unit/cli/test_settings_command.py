"""``qwenkit settings``: all of them, in groups, with where each value is from."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from qwenkit.cli import main
from qwenkit.parameters.described import GROUPS
from qwenkit.settings import Settings


def test_every_setting_is_in_one_group() -> None:
    named = Counter(name for names in GROUPS.values() for name in names)
    assert named == Counter(list(Settings.model_fields))


def test_each_value_says_where_it_is_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("max_scale: 5\nnamespace: team-a\n")
    monkeypatch.setenv("OSS_BUCKET", "my-bucket")
    words = ["settings", "-p", str(tmp_path / "mine.yaml"), "--set", "max_scale=2"]
    monkeypatch.setattr(sys, "argv", ["qwenkit", *words, "--json"])
    assert main.main() == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["max_scale"] == {
        "group": "scaling",
        "name": "max_scale",
        "value": 2,
        "default": 3,
        "meaning": "most replicas; 0: no limit",
        "origin": "--set",
    }
    assert rows["bucket"]["origin"] == "the environment (OSS_BUCKET)"
    assert rows["namespace"]["origin"] == f"params file {tmp_path / 'mine.yaml'}"
    assert rows["min_scale"]["origin"] == "default"
    monkeypatch.setattr(sys, "argv", ["qwenkit", *words])
    monkeypatch.setenv("COLUMNS", "80")
    assert main.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  max_scale = 2  [--set; default: 3]" in lines
    assert [line for line in lines if line in GROUPS] == list(GROUPS)
