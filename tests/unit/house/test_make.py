"""``make clean`` removes what make wrote, and nothing that a person put beside it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from places import ROOT


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_clean_leaves_what_make_did_not_write(tmp_path: Path) -> None:
    ours = ("runs/20261127-101010/index.html", "runs/20261127-101010-2/x", "runs/.qwenkit-lock")
    ours += (".venv/.installed", ".venv/bin/python", "build/lock/x", "qwenkit.egg-info/x")
    mine = (
        "runs/20261127-101010-notes/x",
        "runs/mine",
        "runs/.lock",
        "build/mine",
        "env/bin/python",
        "other/x",
    )
    mine += (".sandbox/x", "mine.egg-info/x")
    for name in (*ours, *mine):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "runs" / "20261127-101011").symlink_to(tmp_path / "other")
    for more in ([], ["VENV=env"], ["VENV=other"]):
        command = ["make", "clean", *more]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*mine, "Makefile"}
