"""Every notebook with its default parameters through nbval: it alone sees errors inside widgets.

But for the stable window, in which the autoscaler waits in real time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from qwenkit.sandbox import process, state_files

# Plugins of others could change what is collected.
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
HURRIED = {"QWENKIT_STABLE_WINDOW": "10s"}
ROOT = Path(__file__).parents[2]


def test_every_notebook_passes_nbval_with_its_defaults(tmp_path):
    root = tmp_path / "sandbox"
    process.up(root, state_files.SandboxOptions(time_scale=10))
    notebooks = sorted(str(path) for path in (ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [
        "-p",
        "nbval.plugin",
        "-p",
        "pytest_timeout",
        "--nbval-lax",
        "--nbval-current-env",
        "--nbval-cell-timeout",
        "300",
        "-W",
        "default",
    ]
    try:
        done = subprocess.run(
            [*command, "--rootdir", str(tmp_path), *notebooks],
            env=os.environ | process.environment(root) | ALONE | HURRIED,
            capture_output=True,
            text=True,
            timeout=500,
        )
    finally:
        process.down(root)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
