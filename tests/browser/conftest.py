"""One sandbox, one JupyterLab and one page serve all tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lab
import pytest

from qwenkit.sandbox import process, state_files

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# The autoscaler runs in real time; a shorter window is a shorter wait.
HURRIED = {"QWENKIT_STABLE_WINDOW": "10s"}


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    """Return the environment of a sandbox in which the service runs."""
    root = tmp_path_factory.mktemp("sandbox") / "root"
    process.up(root, state_files.SandboxOptions(time_scale=10))
    try:
        environment = os.environ | process.environment(root) | HURRIED
        source = "modelscope:qwen/Qwen-7B-Chat-Int8"
        target = f"oss://{environment['OSS_BUCKET']}/Qwen-7B-Chat-Int8"
        for words in (("upload", source, target), ("deploy",)):
            subprocess.run([sys.executable, "-m", "qwenkit", *words], env=environment, check=True)
        yield environment
    finally:
        process.down(root)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Return the folder that JupyterLab serves: a copy of the course."""
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(NOTEBOOKS, folder)
    return folder


@pytest.fixture(scope="session")
def address(folder, sandbox):
    """Serve the folder in JupyterLab; a notebook's name is added to this address."""
    with lab.jupyterlab(folder, sandbox) as address:
        yield address


# Not longer than a file: Playwright's event loop is the process's running one meanwhile.
@pytest.fixture(scope="module")
def page():
    with lab.chromium() as page:
        yield page
