"""kill -9 in the middle, twenty times over, and Ctrl-C: the upload resumes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from places import ROOT, SUPPORT
from transfer_world import (
    OPTIONS,
    PART,
    Handler,
    World,
    is_complete,
    is_part,
    proven,
    world,
    write,
)

KILLS = 20
LATEST = 4  # the last part that a signal may fall on, counted from where a run began
# More than twenty runs can bring: no run comes to its end before its signal.
PARTS = KILLS * (LATEST + OPTIONS.workers - 1) + 10
DATA = random.Random(5).randbytes(PARTS * PART - 77)
FILES = {"w.bin": DATA, "config.json": b"{}"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        write(tmp_path / "model", FILES)
        yield found


def start(place: World, name: str) -> subprocess.Popen[bytes]:
    """Start an upload whose requests bear its name, as a security token."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OSS_SESSION_TOKEN": name}
    source = str(place.root.parent / "model")
    numbers = [str(PART), str(OPTIONS.workers)]
    command = [sys.executable, str(SUPPORT / "transfer_child.py"), place.url, source]
    command += [str(place.state), *numbers]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def end(child: subprocess.Popen[bytes]) -> tuple[int, str]:
    try:
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
    return child.returncode, errors.decode()


def is_part_of(name: str, request: web.Request) -> bool:
    """Return whether a part is of this run, not of an earlier one that left it in a socket."""
    return is_part(request) and request.headers["x-oss-security-token"] == name


def parts_of(place: World, name: str) -> set[str]:
    return {r.query["partNumber"] for r in place.faults.seen if is_part_of(name, r)}


def struck(
    place: World, name: str, rng: random.Random, number: int, arrived: set[str]
) -> subprocess.Popen[bytes]:
    """Start an upload that gets a signal at one of its first parts: before, within or after it.

    Parts that come later than that one wait for the signal, so that no run outpaces it. Those
    that the server had before the signal are added to ``arrived``.
    """
    countdown = rng.randint(1, LATEST)
    moment = rng.choice(["before", "within", "after"])
    started: Future[subprocess.Popen[bytes]] = Future()
    sent = asyncio.Event()

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal countdown
        countdown -= 1
        left, answer = countdown, None
        if left < 0:
            await sent.wait()
        if left or moment == "after":
            answer = await handler(request)
        if left >= 0 and answer is not None:
            arrived.add(request.query["partNumber"])
        if left and answer is not None:
            return answer
        if moment == "within":
            await request.content.readany()
        (await asyncio.wrap_future(started)).send_signal(number)
        sent.set()
        if answer is None:
            raise ConnectionResetError
        return answer

    place.faults.rules[:] = []
    place.faults.add(partial(is_part_of, name), fault)
    started.set_result(start(place, name))
    return started.result()


def test_twenty_kills_and_every_byte(place: World) -> None:
    rng, arrived = random.Random(6), set[str]()
    for name in map(str, range(KILLS)):
        known = arrived.copy()
        code, errors = end(struck(place, name, rng, signal.SIGKILL, arrived))
        assert code == -signal.SIGKILL, errors
        assert known.isdisjoint(parts_of(place, name))
    known = arrived.copy()
    code, errors = end(start(place, "last"))
    assert code == 0, errors
    assert len(known) > KILLS
    assert known.isdisjoint(parts_of(place, "last"))
    proven(place, FILES, again=KILLS * OPTIONS.workers)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_kill_at_the_very_end_sends_nothing_again(place: World, done: bool) -> None:
    started: Future[subprocess.Popen[bytes]] = Future()

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        if done:
            await handler(request)
        (await asyncio.wrap_future(started)).send_signal(signal.SIGKILL)
        raise ConnectionResetError

    place.faults.add(is_complete, fault, times=1)
    started.set_result(start(place, "first"))
    assert end(started.result())[0] == -signal.SIGKILL
    code, errors = end(start(place, "second"))
    assert code == 0, errors
    proven(place, FILES)


def test_ctrl_c_says_how_to_resume(place: World) -> None:
    code, errors = end(struck(place, "first", random.Random(7), signal.SIGINT, set()))
    assert code != 0
    assert "KeyboardInterrupt" in errors
    assert "repeat the same upload" in errors
    assert end(start(place, "second"))[0] == 0
    proven(place, FILES, again=OPTIONS.workers)
