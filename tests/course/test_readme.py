"""The command blocks of the READMEs work as written, from top to bottom, in a fresh copy.

A block that is not run says why in a comment before it, ``<!-- needs: … -->``; one that holds no
commands says ``text``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "notebooks/README.md")
FENCE = re.compile(
    r"^(?P<mark><!-- needs: \S[^\n]* -->\n)?```(?P<language>[^\n`]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# As written, tests/notebooks/test_chain.py runs it.
WHOLE_COURSE = "qwenkit run -p notebooks/params/sandbox.yaml\n"
NOT_COPIED = (".git", ".venv", ".sandbox", "runs", "build", "__pycache__", ".*_cache", "*.egg-info")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    marked: bool

    def script(self) -> str:
        """Return the block for bash; each of its commands must succeed."""
        if self.language == "python":
            return f"python -c {shlex.quote(self.text)}\n"
        return self.text


def blocks(text: str) -> list[Block]:
    fences = [
        Block(found["language"], found["text"], found["mark"] is not None)
        for found in FENCE.finditer(text)
    ]
    assert len(fences) * 2 == len(re.findall("^```", text, re.MULTILINE))
    return [block for block in fences if block.language != "text"]


def test_every_block_is_run_or_says_why_not() -> None:
    found = [block for name in READMES for block in blocks((ROOT / name).read_text("utf-8"))]
    assert {block.language for block in found} <= {"", "python"}
    assert len([block for block in found if not block.marked]) >= 4
    assert [block for block in found if block.marked]
    for block in found:
        outside = re.search(r"\bmake\b|my-ack-context", block.text)
        assert block.marked == bool(outside), block.text


def test_the_command_blocks_work_as_written(tmp_path: Path) -> None:
    copy, home, log = tmp_path / "qwenkit", tmp_path / "home", tmp_path / "log"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    (copy / ".venv").symlink_to(sys.prefix)
    home.mkdir()
    found = [block for name in READMES for block in blocks((ROOT / name).read_text("utf-8"))]
    # Once, where both files say the same.
    scripts = dict.fromkeys(block.script() for block in found if not block.marked)
    script = "".join(["PS4='+ $SECONDS s: '\n", *scripts])
    assert script.count(WHOLE_COURSE) == 1
    script = script.replace(WHOLE_COURSE, WHOLE_COURSE.replace("\n", " --only 00,90\n"))
    # The environment is that of this test, the code that of the copy.
    env = os.environ | {"HOME": str(home), "PYTHONPATH": str(copy), "LC_ALL": "C.UTF-8"}
    env.pop("KUBECONFIG")
    try:
        with log.open("wb") as output:
            done = subprocess.run(
                ["bash", "-exo", "pipefail", "-c", script],
                cwd=copy,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=550,
            )
        assert done.returncode == 0, log.read_text("utf-8")[-4000:]
        assert not (home / ".qwenkit" / "sandbox").exists()
    finally:
        command = [sys.executable, "-m", "qwenkit", "sandbox", "down"]
        subprocess.run(command, cwd=copy, env=env, capture_output=True, check=False, timeout=60)
