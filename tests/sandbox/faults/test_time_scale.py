"""A run changes how fast a running sandbox's node is, for as long as the run lasts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from real_sandbox import eventually

from qwenkit.course.target import target
from qwenkit.errors import InvalidValue
from qwenkit.sandbox import process, state_files
from qwenkit.sandbox.controllers.clock import Clock, loop_time
from qwenkit.sandbox.faults.client import time_scale
from qwenkit.settings import Settings

HOLDER = """
import pathlib, sys, time
from qwenkit.sandbox.faults.client import time_scale
from qwenkit.settings import Settings
with time_scale(pathlib.Path(sys.argv[1]), 50):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("sandbox") / "root"
    process.up(root, state_files.SandboxOptions(time_scale=2))
    yield root
    process.down(root)


def now(root: Path) -> float:
    return state_files.running(root).time_scale


def becomes(root: Path, scale: float) -> None:
    eventually(lambda: now(root) == scale)


def test_it_lasts_as_long_as_the_block_and_the_newest_wins(root: Path) -> None:
    with time_scale(root, 10) as before:
        assert before == 2
        becomes(root, 10)
        with time_scale(root, 30) as inner:
            assert inner == 10
            becomes(root, 30)
        becomes(root, 10)
        with suppress(ZeroDivisionError), time_scale(root, 2):
            becomes(root, 2 / 0)
        becomes(root, 10)
    becomes(root, 2)
    assert state_files.running(root).options.time_scale == 2


def test_it_ends_with_a_process_that_is_killed(root: Path) -> None:
    command = [sys.executable, "-c", HOLDER, root]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        becomes(root, 50)
        os.kill(holder.pid, signal.SIGKILL)
    becomes(root, 2)


def test_a_run_says_what_of_its_parameters_a_running_sandbox_follows(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in process.environment(root).items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    with target(Settings(), said.append):
        assert now(root) == 2
    assert said == []
    with suppress(KeyboardInterrupt), target(Settings(time_scale=20, gpu="T4"), said.append):
        becomes(root, 20)
        raise KeyboardInterrupt
    becomes(root, 2)
    assert "20 times real speed for this run, then 2 again" in said[1]
    assert "its node has V100-16, and gpu=T4 does not change that" in said[0]
    # A kubeconfig that was copied elsewhere does not say where the sandbox is.
    copied = root.parent / "elsewhere"
    copied.write_text((root / "kubeconfig").read_text())
    monkeypatch.setenv("KUBECONFIG", str(copied))
    with target(Settings(time_scale=20), said.append):
        assert now(root) == 2
    assert "time_scale does not change it" in said[2]


@pytest.mark.parametrize("scale", [0, -1, 1001, float("nan"), float("inf"), True, "2", None])
def test_no_other_scale_is_accepted(root: Path, scale: float) -> None:
    with pytest.raises(InvalidValue, match="time_scale"), time_scale(root, scale):
        pass
    assert now(root) == 2


def test_who_sleeps_by_the_clock_follows_it() -> None:
    async def run() -> float:
        clock = Clock(0.01)
        sleeping = asyncio.create_task(clock.sleep(10))  # 1000 s
        await asyncio.sleep(0.1)
        begun = loop_time()
        clock.rescale(1000)
        await sleeping
        assert clock.now() >= 10
        return loop_time() - begun

    assert asyncio.run(run()) < 5
