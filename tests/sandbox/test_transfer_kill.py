"""kill -9 in the middle, twenty times over, and Ctrl-C: the upload goes on where it was."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from transfer_world import OPTIONS, PART, Handler, World, is_part, world, write

from qwenkit.weights.integrity import verify

KILLS = 20
PARTS = 50
DATA = random.Random(5).randbytes(PARTS * PART - 77)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        write(tmp_path / "model", {"w.bin": DATA, "config.json": b"{}"})
        yield found


def start(place: World) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(here.parents[1])}
    source = str(place.root.parent / "model")
    numbers = [str(PART), str(OPTIONS.workers)]
    command = [sys.executable, str(here / "transfer_child.py"), place.url, source]
    command += [str(place.state), *numbers]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def end(child: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, errors = child.communicate(timeout=60)
    return child.returncode, errors.decode()


def signal_at(
    place: World, child: subprocess.Popen[bytes], rng: random.Random, number: int
) -> None:
    """Send a signal to the child around its next few parts: before, within or after one."""
    countdown = rng.randint(1, 4)
    moment = rng.choice(["before", "within", "after"])

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal countdown
        countdown -= 1
        if countdown or moment == "after":
            answer = await handler(request)
            if not countdown:
                child.send_signal(number)
            return answer
        if moment == "within":
            await request.content.readany()
        child.send_signal(number)
        await asyncio.sleep(0)
        raise ConnectionResetError

    place.faults.rules.clear()
    place.faults.add(is_part, fault)


def test_twenty_kills_and_every_byte(place: World) -> None:
    rng = random.Random(6)
    killed = 0
    for _ in range(KILLS):
        child = start(place)
        signal_at(place, child, rng, signal.SIGKILL)
        code, errors = end(child)
        assert code in (0, -signal.SIGKILL), errors
        killed += code != 0
    place.faults.rules.clear()
    code, errors = end(start(place))
    assert code == 0, errors
    assert killed >= 10
    assert place.stored("m/w.bin") == DATA
    assert verify(place.bucket, "m").problems == ()
    assert place.orphans() == []
    sent = Counter(r.query["partNumber"] for r in place.faults.seen if is_part(r))
    assert sum(sent.values()) <= PARTS + killed * OPTIONS.workers


def test_ctrl_c_says_how_to_go_on(place: World) -> None:
    child = start(place)
    signal_at(place, child, random.Random(7), signal.SIGINT)
    code, errors = end(child)
    assert code != 0
    assert "KeyboardInterrupt" in errors
    assert "repeat the same upload" in errors
    place.faults.rules.clear()
    assert end(start(place))[0] == 0
    assert place.stored("m/w.bin") == DATA
    assert place.orphans() == []
