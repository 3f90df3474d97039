"""The boxes "When it goes wrong": what they have the learner type, and what they say one sees."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qwenkit.sandbox import process, state_files

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("0[0-7]-*.ipynb"))
BOX = "when-it-goes-wrong"
CASE = re.compile(r"```bash\n(.+?)```\nYou see ((?:`[^`]+`|[^`.:])+)", re.DOTALL)
UPLOAD = "qwenkit upload modelscope:qwen/Qwen-7B-Chat-Int8 oss://$OSS_BUCKET/Qwen-7B-Chat-Int8"
NO_SERVICE = "kubectl delete ksvc --all; kubectl delete pod --all --force --grace-period=0"
# What a learner has who has come that far; from whatever another notebook's box left behind.
BEFORE = {
    "00": "",
    "01": UPLOAD,
    "02": f"{UPLOAD}; qwenkit deploy --set timeout_s=1; {NO_SERVICE}",
    "03": f"{NO_SERVICE}; qwenkit teardown; {UPLOAD}",
    "04": f"{NO_SERVICE}; {UPLOAD}; qwenkit deploy",
    "05": f"{NO_SERVICE}; {UPLOAD}; qwenkit deploy",
    "06": f"{NO_SERVICE}; {UPLOAD}; qwenkit deploy",
    "07": f"{NO_SERVICE}; {UPLOAD}; qwenkit deploy",
}


def box(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return "".join(next(cell["source"] for cell in cells if cell["id"] == BOX))


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Return a function that runs lines as a learner's terminal does, after `sandbox env`."""
    home = tmp_path_factory.mktemp("home")
    root = home / ".qwenkit" / "sandbox"
    process.up(root, state_files.SandboxOptions(time_scale=12))
    environment = os.environ | process.environment(root)
    environment |= {"HOME": str(home), "QWENKIT_TIMEOUT_S": "60"}
    # One pod stays.
    environment |= {"QWENKIT_MIN_SCALE": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(lines):
        done = subprocess.run(
            ["bash", "-c", lines],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.stdout

    yield run
    process.down(root)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_box_is_short_and_folded(path):
    text = box(path)
    assert text.startswith("<details><summary>")
    assert text.endswith("</details>")
    assert len(text.splitlines()) <= 15
    assert 1 <= len(CASE.findall(text)) <= 3
    assert text.count("```bash") == len(CASE.findall(text))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_box_tells_what_happens(path, shell):
    before = shell(BEFORE[path.stem[:2]])
    for commands, seen in CASE.findall(box(path)):
        said = shell(commands)
        for words in re.findall(r"`([^`]+)`", seen):
            told = f"{commands}\ndoes not say {words!r} but:\n{said}\nafter:\n{before}"
            assert words in said, told
        assert "Traceback (most recent call last)" not in said.partition("why:")[0]
        shell("qwenkit sandbox fault clear; until kubectl get ns >/dev/null; do sleep 0.2; done")
