"""``make clean`` removes what make wrote alone; an installation tells how far it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return a virtual environment whose pip, as ``python -m pip``, is a script that notes."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "pip").touch()
    script = f"""#!{sys.executable}
import pathlib, sys
place = pathlib.Path({str(tmp_path)!r})
if "config" in sys.argv:
    print(":env:.cert='/own'\\nglobal.cert='/other'\\nglobal.index-url='https://mirror.example'")
else:
    (place / "pip").write_text(" ".join(sys.argv[1:]))
    (place / "slow").exists() and __import__("time").sleep(4)
    print("Collecting everything")
"""
    (folder / "bin" / "python").write_text(script)
    (folder / "bin" / "python").chmod(0o755)
    return folder


def install(venv: Path, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "install.py"), str(venv), "course,dev"]
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("UV_", "SSL_"))
    }
    env = kept | {"PATH": f"{path}:/usr/bin:/bin"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("code", [0, 1])
def test_uv_installs_what_pip_would_from_where_pip_would(
    tmp_path: Path, environment: Path, code: int
) -> None:
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\necho "$@ $UV_DEFAULT_INDEX $SSL_CERT_FILE" > {uv}.said\nexit {code}')
    uv.chmod(0o755)
    done = install(environment, tmp_path)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "uv.said").read_text()
    assert "install -c constraints.txt -e .[course,dev]" in said
    assert "https://mirror.example /own" in said
    assert (tmp_path / "pip").exists() == bool(code)  # what uv cannot, pip does


@pytest.mark.long
def test_an_installation_is_never_silent_for_long(tmp_path: Path, environment: Path) -> None:
    (tmp_path / "slow").touch()
    lines = install(environment, tmp_path).stdout.splitlines()
    assert "install -c constraints.txt -e .[course,dev]" in (tmp_path / "pip").read_text()
    assert any("packages installed" in line for line in lines), lines
