"""Parts, CRCs, checkpoints, retries, and the line of progress."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.errors import Conflict
from qwenkit.weights.checkpoint import Checkpoint, Checkpoints
from qwenkit.weights.parts import (
    MAX_PARTS,
    MIN_PART,
    Buffers,
    Part,
    PartLayout,
    SlicedBody,
    combine,
    crc64,
)
from qwenkit.weights.progress import Meter, Progress, format_bytes, format_progress
from qwenkit.weights.retry import RetryPolicy, Stop, Stopped, retry


@settings(deadline=None)
@given(size=st.integers(0, 1 << 45), part_size=st.integers(MIN_PART, 1 << 30))
def test_parts_cover_every_size(size: int, part_size: int) -> None:
    layout = PartLayout.cut(size, part_size)
    assert layout.count <= MAX_PARTS
    assert layout.part_size >= part_size
    if size:
        full = (layout.count - 1) * layout.part_size
        assert full + layout.length(layout.count) == size
        assert 0 < layout.length(layout.count) <= layout.part_size
    else:
        assert layout.count == 0


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50)))
def test_the_crc_of_a_whole_is_that_of_its_parts(pieces: list[bytes]) -> None:
    assert combine((crc64(piece), len(piece)) for piece in pieces) == crc64(b"".join(pieces))


def test_the_crc_is_the_one_that_oss_has() -> None:
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA
    assert crc64(b"") == 0
    assert crc64(b"6789", crc64(b"12345")) == crc64(b"123456789")


def test_a_body_is_the_same_every_time() -> None:
    data = random.Random(1).randbytes(3 << 20)
    counted: list[int] = []
    body = SlicedBody(memoryview(data), Stop(), counted.append)
    assert len(body) == len(data)
    assert b"".join(body) == b"".join(body) == data
    assert sum(counted) == 2 * len(data)


def test_a_stopped_body_ends() -> None:
    stop = Stop()
    body = iter(SlicedBody(memoryview(bytes(3 << 20)), stop, lambda _: None))
    next(body)
    stop.set()
    with pytest.raises(Stopped):
        next(body)


def test_buffers_are_no_more_than_agreed() -> None:
    buffers, stop = Buffers(2), Stop()
    first, second = buffers.take(10, stop), buffers.take(10, stop)
    assert first is not second
    stop.set()
    with pytest.raises(Stopped):
        buffers.take(10, stop)
    buffers.give(first)
    assert buffers.take(5, Stop()) is first
    buffers.give(second)
    assert len(buffers.take(100, Stop())) == 100


def checkpoint() -> Checkpoint:
    parts = {n: Part(n, f"etag{n}", n * 7, 100) for n in (1, 3)}
    return Checkpoint("upload-1", 300, "ab", 100, parts)


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, "target")
    assert store.load("k") is None
    store.save("k", checkpoint())
    assert Checkpoints(tmp_path, "target").load("k") == checkpoint()
    assert Checkpoints(tmp_path, "other").load("k") is None
    assert store.load("another key") is None
    store.delete("k")
    store.delete("k")
    assert store.load("k") is None


@settings(deadline=None)
@given(st.binary())
def test_no_content_of_a_checkpoint_breaks_anything(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = Checkpoints(Path(folder), "target")
        store.save("k", checkpoint())
        (path,) = Path(folder).rglob("*.json")
        path.write_bytes(content)
        assert store.load("k") is None
        assert store.load("k") is None


def test_one_process_a_prefix(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, "target").exclusive():
        with (
            pytest.raises(Conflict, match="another upload") as refused,
            Checkpoints(tmp_path, "target").exclusive(),
        ):
            pass
        assert f"process {os.getpid()} holds" in refused.value.why
        with Checkpoints(tmp_path, "other").exclusive():
            pass
    with Checkpoints(tmp_path, "target").exclusive():
        pass


def test_retries_end_and_wait_longer() -> None:
    tries: list[int] = []
    retries: list[int] = []
    policy = RetryPolicy(4, base_s=0.001, cap_s=0.002, on_retry=lambda: retries.append(1))
    assert all(policy.delay_s(n) <= 0.002 for n in range(1, 50))

    def fail() -> None:
        tries.append(1)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        retry(fail, policy, lambda *_: True)
    assert (len(tries), len(retries)) == (4, 3)
    with pytest.raises(OSError):  # noqa: PT011
        retry(fail, policy, lambda *_: False)
    assert (len(tries), len(retries)) == (5, 3)


def test_a_wait_ends_when_the_work_should() -> None:
    stop = Stop()
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(Stopped):
        stop.wait(3600)


def test_progress_counts_and_takes_back() -> None:
    meter = Meter(2, 100)
    with meter.file("w"):
        meter.send("w", 30)
        meter.keep("w", 20)
        assert (meter.read().bytes_done, meter.kept("w")) == (50, 20)
        meter.restart("w")
    assert (meter.sent, meter.skipped, meter.read().bytes_done) == (30, 0, 0)


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (
            Progress(3, 20, 4_600_000_000, 9_130_000_000, 21_000_000.0, 215.7, 2, "model-3"),
            "3/20 files  4.6 GB of 9.1 GB (50 %)  21.0 MB/s  3:36 left  2 retries  model-3",
        ),
        (Progress(0, 1, 0, 0, 0.0, None, 0, ""), "0/1 files  0 B of 0 B (100 %)  0 B/s"),
        (
            Progress(0, 1, 1, 100, 0.01, 9900.0, 0, "w"),
            "0/1 files  1 B of 100 B (1 %)  0 B/s  2:45:00 left  w",
        ),
    ],
)
def test_the_line(progress: Progress, line: str) -> None:
    assert format_progress(progress) == line
    assert format_bytes(2.5e12) == "2.50 TB"
