"""Connections that end: a drip, a deadline, a stop, and what a slow but honest server may do."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests
from evil.answers import CHUNKED, OK, forever
from evil.hub import Evil, Exchange, evil_hub

from qwenkit.errors import WaitTimeout
from qwenkit.weights import watched_http
from qwenkit.weights.retry import Stop, Stopped
from qwenkit.weights.watched_http import WatchedAdapter, flow_error


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as found:
        found.trust_env = False
        found.mount("http://", WatchedAdapter())
        yield found


def answered(session: requests.Session, answer: Callable[[Exchange], None]) -> bytes:
    with (
        evil_hub(Evil("x", "listing", answer)) as hub,
        session.get(f"{hub.url}/repo/files?", stream=True, timeout=5) as response,
    ):
        return b"".join(iter(lambda: response.raw.read1(1 << 16, decode_content=False), b""))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_http, "WINDOW_S", 0.6)


@pytest.mark.parametrize("head", [OK + b"X: ", OK + b"\r\n", CHUNKED + b"9;", CHUNKED + b"0\r\n"])
@pytest.mark.usefixtures("quick")
def test_a_drip_ends_wherever_it_is(session: requests.Session, head: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(Exception, match=r".") as caught:
        answered(session, forever(head, b"a", every_s=0.1))
    found = flow_error(caught.value)
    assert found is not None
    assert not found.final
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("quick")
def test_who_thinks_long_and_answers_at_once_is_not_slow(session: requests.Session) -> None:
    def answer(exchange: Exchange) -> None:
        time.sleep(1)
        exchange.answer(b"whole")

    assert answered(session, answer) == b"whole"


@pytest.mark.usefixtures("quick")
def test_who_reads_slowly_blames_nobody(session: requests.Session) -> None:
    with (
        evil_hub(Evil("x", "listing", lambda x: x.answer(bytes(100)))) as hub,
        session.get(f"{hub.url}/repo/files?", stream=True, timeout=5) as response,
    ):
        read = 0
        for _ in range(10):
            time.sleep(0.1)
            read += len(response.raw.read1(10, decode_content=False))
    assert read == 100


def test_a_stop_and_a_deadline_end_a_silent_answer(session: requests.Session) -> None:
    def silent(_: Exchange) -> None:
        threading.Event().wait(20)

    for stop, error in ((Stop(0.3), WaitTimeout), (Stop(), Stopped)):
        threading.Timer(0.3, stop.set if error is Stopped else lambda: None).start()
        began = time.monotonic()
        with stop.active(), pytest.raises(error):
            answered(session, silent)
        assert time.monotonic() - began < 3


def test_bytes_that_tls_in_tls_has_decrypted_are_not_waited_for() -> None:
    class TlsInTls:  # as urllib3's SSLTransport, which cannot tell what it holds
        recv_into = staticmethod(lambda buffer: len(buffer))
        gettimeout = staticmethod(lambda: 0.2)

        def fileno(self) -> int:
            return silent.fileno()

    silent, other = socket.socketpair()
    with silent, other:
        answer = watched_http._WatchedBytes(TlsInTls(), io.BytesIO())
        assert answer.readinto(bytearray(9)) == 9


def test_large_answers_arrive_whole(session: requests.Session) -> None:
    data = bytes(range(256)) * 20_000
    assert answered(session, lambda x: x.answer(data)) == data
    chunks = b"".join(b"%x\r\n%s\r\n" % (7000, data[n : n + 7000]) for n in range(0, 700_000, 7000))
    assert answered(session, lambda x: x.send(CHUNKED + chunks + b"0\r\n\r\n")) == data[:700_000]
