"""Programs that the sandbox really runs: output, status, environment, and no way to outlive it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from node_world import until
from real_sandbox import alive, eventually

from qwenkit.sandbox.kubelet import child, supervisor

Run = Callable[[child.ChildProcess], Awaitable[None]]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> child.Programs:
    monkeypatch.setattr(child, "GRACE_S", 0.5)
    return child.Programs(tmp_path / "programs")


def start(programs: child.Programs, script: str, body: Run | None = None) -> tuple[int, list[str]]:
    """Run a shell script to its end, or as long as ``body``; return its status and its lines."""
    lines: list[str] = []

    async def run() -> int:
        with programs.private() as home:
            env = child.environment(home)
            argv = ["sh", "-c", script]
            async with child.running(argv, env=env, folder=home, log=lines.append) as process:
                if body:
                    await body(process)
                    return await process.stop()
                return await process.ended()

    return asyncio.run(run()), lines


def gone(pids: Path) -> bool:
    """Wait until the processes that a file names are gone, with who inherited them."""
    return eventually(lambda: not [pid for pid in pids.read_text().split() if alive(int(pid))])


@pytest.mark.parametrize(
    ("script", "code"), [("true", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_its_status_is_what_a_kubelet_shows(
    programs: child.Programs, script: str, code: int
) -> None:
    assert start(programs, script)[0] == code


def test_a_program_that_is_not_there_says_so(programs: child.Programs) -> None:
    lines: list[str] = []

    async def run() -> int:
        with programs.private() as home:
            argv = ["/no/such/program"]
            async with child.running(argv, env={}, folder=home, log=lines.append) as process:
                return await process.ended()

    assert asyncio.run(run()) == 127
    assert lines == ["/no/such/program: No such file or directory"]


def test_both_its_outputs_are_logged_by_lines(programs: child.Programs) -> None:
    script = r"printf 'one\ntw'; printf 'o\n10%%\r100%%\r\n\377\nlast'; echo err >&2"
    _, lines = start(programs, script)
    assert lines == ["one", "two", "100%", "\N{REPLACEMENT CHARACTER}", "lasterr"]


def test_a_line_without_end_is_cut(programs: child.Programs) -> None:
    _, lines = start(programs, "head -c 3000000 /dev/zero | tr '\\0' x")
    assert len("".join(lines)) == 3_000_000
    assert len(lines) > 1


def test_it_sees_only_where_programs_are(
    programs: child.Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET_KEY", "HTTPS_PROXY", "PYTHONPATH", "QWENKIT_TOKEN"):
        monkeypatch.setenv(name, "hidden")
    _, lines = start(programs, "env; pwd")
    names = {line.partition("=")[0] for line in lines[:-1]}
    assert {"PATH", "HOME", "TMPDIR"} <= names
    assert "hidden" not in "\n".join(lines)
    assert lines[-1] == next(line[5:] for line in lines if line.startswith("HOME="))
    assert not Path(lines[-1]).exists()


def test_all_that_it_started_ends_with_it(programs: child.Programs, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    async def body(_: child.ChildProcess) -> None:
        await until(lambda: pids.exists() and len(pids.read_text().split()) == 2)

    script = f"trap '' TERM; sh -c 'trap \"\" TERM; sleep 1000' & echo $$ $! > {pids}; wait; wait"
    # It does not listen to SIGTERM: the whole group is killed.
    assert start(programs, script, body)[0] == 137
    assert gone(pids)


def test_what_it_leaves_behind_ends_too(programs: child.Programs, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    assert start(programs, f"sleep 1000 & echo $! > {pid}; exit 4")[0] == 4
    assert gone(pid)


def test_without_its_supervisor_it_ends(programs: child.Programs, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    assert start(programs, f"echo $$ > {pid}; kill -9 $PPID; sleep 1000")[0] == 137
    assert gone(pid)


def test_a_start_that_is_cancelled_leaves_nothing(programs: child.Programs, tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    async def run(turns: int) -> None:
        with programs.private() as home:

            async def serve() -> None:
                argv = ["sh", "-c", f"echo $$ > {pid}; exec sleep 1000"]
                async with child.running(argv, env={}, folder=home, log=print):
                    await asyncio.Event().wait()

            task = asyncio.create_task(serve())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    for turns in range(8):
        pid.unlink(missing_ok=True)
        asyncio.run(run(turns))
        assert not pid.exists() or gone(pid)


def test_clear_waits_for_what_a_dead_sandbox_left(programs: child.Programs, tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    with programs.private() as home:
        # Whoever holds the other end of its pipe is its sandbox.
        command = [sys.executable, supervisor.__file__, "5", "CORE=0", "sleep", "1000"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=home) as process:
            asyncio.run(until(lambda: os.getpgid(process.pid) == process.pid))
            assert process.stdin is not None
            process.stdin.close()
            child.clear(folder)
            assert not folder.exists()
            assert process.wait(timeout=60) in (128 + signal.SIGTERM, -signal.SIGKILL)


@pytest.mark.usefixtures("programs")
def test_clear_waits_for_nothing_where_no_program_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_unlocked", lambda _: False)  # as on NFS
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waits"))
    child.clear(tmp_path / "programs")
    assert not (tmp_path / "programs").exists()
