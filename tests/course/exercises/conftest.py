"""A learner's terminal, with a sandbox of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from qwenkit.sandbox import process, state_files


@pytest.fixture(scope="module")
def terminal(tmp_path_factory):
    """Return a context whose value runs lines; keywords are settings of that terminal."""

    @contextmanager
    def opened(**settings):
        home = tmp_path_factory.mktemp("home")
        root = home / ".qwenkit" / "sandbox"
        process.up(root, state_files.SandboxOptions(time_scale=20))
        environment = os.environ | process.environment(root) | {"HOME": str(home)}
        environment |= {"QWENKIT_PROGRESS": str(home / "progress.json"), "QWENKIT_LANG": "en"}
        environment |= {f"QWENKIT_{name.upper()}": value for name, value in settings.items()}
        environment["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"

        def run(lines, fails=False):
            done = subprocess.run(
                ["bash", "-c", lines if fails else f"set -e\n{lines}"],
                env=environment,
                cwd=home,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert fails or done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        yield run
        process.down(root)

    return opened
