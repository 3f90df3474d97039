"""What servers and gateways do to a stream: each ends in a clear error, counted once."""

from __future__ import annotations

import pytest
from raw_server import (
    DONE,
    HEAD,
    PLAIN,
    ROLE,
    answering,
    event,
    loaded,
    refusal,
    say,
    stream,
)

from qwenkit.capacity.simulation.traffic import Arrival, OpenLoop
from qwenkit.errors import NotReady, QwenkitError, Rejected, Unreachable
from qwenkit.inference.load.running import start_load

FAILURES = {
    "closed in the middle": (stream(ROLE, say("west"), end=False), Unreachable, "cut", "1 tokens"),
    "ended without a reason": (stream(ROLE, say("west"), DONE), Unreachable, "cut", "1 tokens"),
    "vLLM's error event": (
        stream(ROLE, b'data: {"object":"error","message":"CUDA error"}\n\n', DONE),
        QwenkitError,
        "error in stream",
        "CUDA error",
    ),
    "an error event": (
        stream(say("a"), b'data: {"error":{"message":"CUDA error"}}\n\n'),
        QwenkitError,
        "error in stream",
        "CUDA error",
    ),
    "an error without a message": (
        stream(say("a"), b'data: {"error":{}}\n\n', DONE),
        QwenkitError,
        "error in stream",
        "no message",
    ),
    "FastAPI's error event": (
        stream(say("a"), b'event: error\ndata: {"detail": "CUDA error"}\n\n', DONE),
        QwenkitError,
        "error in stream",
        "CUDA error",
    ),
    "an error as JSON": (
        refusal("200 OK", b'{"error": {"message": "%b CUDA error"}}' % (b"x" * 99)),
        QwenkitError,
        "error in stream",
        "CUDA error",
    ),
    "given up": (
        stream(ROLE, say("west"), event({}, "abort"), DONE),
        QwenkitError,
        "given up",
        "after 1 tokens (finish_reason: abort)",
    ),
    "nothing": (refusal("200 OK"), Rejected, "not an answer", "its answer is empty"),
    "a proxy's page": (
        refusal("200 OK", b"<html>Log in</html>", b"Content-Type: text/html\r\n"),
        Rejected,
        "not an answer",
        "begins with '<html>Log in",
    ),
    "badly compressed": (
        refusal("200 OK", b"abc", b"Content-Encoding: gzip\r\n"),
        Rejected,
        "not an answer",
        "incorrect header check",
    ),
    "half a UTF-8 character": (
        stream(b'data: {"choices": [{"delta": {"content": "\xe8\xa5"}}]}\n\n'),
        Rejected,
        "not an answer",
        "utf-8",
    ),
    "closed before the first event": (
        stream(end=False),
        Unreachable,
        "cut",
        "cut after 0 tokens",
    ),
    "closed at once": (b"", Unreachable, "cut", "closed the connection before"),
    "closed in the head": (b"HTTP/1.1 200", Unreachable, "cut", "closed the connection before"),
    "HTTP/1.0 cut": (
        b"HTTP/1.0 200 OK\r\n\r\n" + say("a"),
        Unreachable,
        "cut",
        "cut after 1 tokens",
    ),
    "choices null": (
        stream(b'data: {"choices": null}\n\n'),
        Rejected,
        "not an answer",
        "choices is null",
    ),
    "to https": (
        refusal("301 Moved Permanently", headers=b"Location: https://qwen.example.com/v1\r\n"),
        Rejected,
        "http 301",
        "http-protocol: Redirected",
    ),
    "TO HTTPS": (
        refusal("308 Permanent Redirect", headers=b"Location: HTTPS://qwen.example.com\r\n"),
        Rejected,
        "http 308",
        "http-protocol: Redirected",
    ),
    "nowhere": (
        refusal("302 Found"),
        Rejected,
        "http 302",
        "redirects to a place that it does not name",
    ),
    "elsewhere": (
        refusal("307 Temporary Redirect", headers=b"Location: http://other/\r\n"),
        Rejected,
        "http 307",
        "redirects to http://other/",
    ),
    "no pod": (refusal("503 Service Unavailable"), NotReady, "http 503", "no pod answers"),
    "no stream": (
        refusal("200 OK", b'{"choices": [{"message": {"content": "west lake"}}]}'),
        Rejected,
        "not an answer",
        'no stream of events, it begins with \'{"choices"',
    ),
    "an endless event": (
        stream(b"data: " + b"x" * 2**20, b"x" * 2**20),
        Rejected,
        "not an answer",
        "an event of its answer is over 1,048,576 bytes",
    ),
    "no count": (
        stream(say("a", "stop"), b'data: {"choices": [], "usage": {"prompt_tokens": 1e999}}\n\n'),
        Rejected,
        "not an answer",
        "prompt_tokens is inf",
    ),
    "no HTTP": (b"\x15\x03\x01\x00\x02\x02F\r\n", Rejected, "not an answer", "is not HTTP"),
}


@pytest.mark.parametrize(("answer", "error", "kind", "words"), FAILURES.values(), ids=FAILURES)
def test_a_failure_says_what_happened(
    answer: bytes, error: type[QwenkitError], kind: str, words: str
) -> None:
    with answering(answer) as server:
        with pytest.raises(QwenkitError) as caught:
            list(server.stream("x"))
        assert type(caught.value) is error
        assert words in str(caught.value)
        assert "the gateway's address right" not in str(caught.value)
        done, said = loaded(server)
    assert (done.outcome, done.why) == ("failed", kind)
    assert words in said


def test_whatever_the_server_does_every_request_is_counted_once() -> None:
    bad = [answer for answer, *_ in FAILURES.values()] + [b"", b"HTTP/1.1 200", HEAD]
    good = stream(*PLAIN)
    with answering(*(each for one in bad for each in (good, one)), good) as server:
        server.timeout_s = 5
        traffic = OpenLoop(tuple(Arrival(0.002 * n, 20, 8) for n in range(60)))
        running = start_load(server, traffic)
        result = running.result()
    summary = result.summary()
    assert summary["requests"] == 60
    assert summary["ok"] + summary["failed"] + summary["cancelled"] == 60
    assert [one.number for one in result.requests] == list(range(60))
    assert summary["failed"] == sum(summary["errors"].values()) == len(bad)
    assert set(summary["errors"]) == set(summary["causes"])
    assert running.snapshot().errors == summary["errors"]
