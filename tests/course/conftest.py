"""A whole sandbox as its users start it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from qwenkit.sandbox import process, state_files


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    """Return the root of a sandbox that runs for all tests of the session."""
    root = tmp_path_factory.mktemp("sandbox") / "root"
    process.up(root, state_files.SandboxOptions(time_scale=20))
    yield root
    process.down(root)


@pytest.fixture
def environment(sandbox):
    """Return the environment in which every command works against the sandbox."""
    return os.environ | process.environment(sandbox)


@pytest.fixture
def qwenkit(environment):
    """Return a function that runs one ``qwenkit`` command as a process."""

    def run(*words, env=None, timeout=120):
        return subprocess.run(
            [sys.executable, "-m", "qwenkit", *words],
            env=environment | (env or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
