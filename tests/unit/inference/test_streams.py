"""What servers and gateways do to a stream: each ends in right numbers or a clear error."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from qwenkit.capacity.simulation.traffic import Arrival, OpenLoop
from qwenkit.errors import NotReady, QwenkitError, Rejected, Unreachable
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import start_load
from qwenkit.inference.results import LoadRequest

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
ONCE = OpenLoop((Arrival(0.0, 20, 8),))


class Raw(socketserver.BaseRequestHandler):
    """Answers each request with the next of the server's answers, the last one again."""

    def handle(self) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += self.request.recv(65536)
        head, _, body = asked.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        while len(body) < length:
            body += self.request.recv(65536)
        self.server.bodies.append(json.loads(body))
        place = min(len(self.server.bodies), len(self.server.answers)) - 1
        self.request.sendall(self.server.answers[place])


class Closing(Raw):
    """Closes the connection when a second request comes, which it does not answer."""

    def handle(self) -> None:
        super().handle()
        self.request.recv(65536)


@contextmanager
def answering(*answers: bytes, by: type[Raw] = Raw) -> Iterator[Server]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), by) as listening:
        listening.daemon_threads = True
        listening.answers, listening.bodies = answers, []
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        server = Server(f"http://127.0.0.1:{listening.server_address[1]}", "h", model="qwen")
        server.asked = listening.bodies
        try:
            yield server
        finally:
            server.close()
            listening.shutdown()
            thread.join()


def stream(*parts: bytes, headers: bytes = b"", end: bool = True) -> bytes:
    """A streamed answer of parts, a chunk each; without ``end`` the connection is lost."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return HEAD + headers + b"Connection: close\r\n\r\n" + chunks + b"0\r\n\r\n" * end


def refusal(status: str, body: bytes = b"", headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + headers + length + body


def event(delta: dict[str, object], finish: str | None = None, **more: object) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def say(text: str, finish: str | None = None, **more: object) -> bytes:
    return event({"content": text}, finish, **more)


def counts(tokens: int, **details: int) -> bytes:
    usage = {"prompt_tokens": 20, "completion_tokens": tokens}
    if details:
        usage["completion_tokens_details"] = details
    return b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
ROLE = event({"role": "assistant"})
PLAIN = (ROLE, say("west "), say("lake", "stop"), counts(2), DONE)


def loaded(server: Server) -> tuple[LoadRequest, str]:
    """The one request of a load, and what is said of its failure."""
    result = start_load(server, ONCE).result()
    summary = result.summary()
    assert summary["requests"] == summary["ok"] + summary["failed"] + summary["cancelled"] == 1
    return result.requests[0], " ".join(result.causes.values())


@pytest.mark.parametrize(
    "parts",
    [
        PLAIN,
        (b"".join(PLAIN),),
        (b"\xef\xbb\xbf: a comment\n\n", *PLAIN),
        tuple(part.replace(b"data: ", b"data:") for part in PLAIN),
        tuple(part.replace(b"\n", b"\r\n") for part in PLAIN),
        tuple(part.replace(b"\n", b"\r") for part in PLAIN),
        tuple(b"id: 7\nevent: message\nretry: 3\n" + part for part in PLAIN),
        tuple(part.replace(b', "', b',\ndata: "') for part in PLAIN),
        tuple(bytes([byte]) for byte in b"".join(PLAIN)),
    ],
    ids=["plain", "at once", "comment", "no space", "CRLF", "CR", "fields", "lines", "bytes"],
)
def test_every_form_of_the_same_stream_gives_the_same_numbers(parts: tuple[bytes, ...]) -> None:
    with answering(stream(*parts)) as server:
        streamed = server.stream("x")
        assert "".join(streamed) == "west lake"
        assert (streamed.stats.tokens, streamed.stats.finish_reason) == (2, "stop")
        done, _ = loaded(server)
        assert (done.outcome, done.tokens, done.prompt_tokens) == ("ok", 2, 20)
        assert server.asked[-1]["stream_options"] == {"include_usage": True}


def test_several_tokens_a_chunk_are_counted_by_the_server() -> None:
    parts = (ROLE, say("a b c "), say("d e f", "length"), counts(6), DONE)
    with answering(stream(*parts)) as server:
        streamed = server.stream("x")
        assert "".join(streamed) == "a b c d e f"
        assert streamed.stats.tokens == 6
        done, _ = loaded(server)
    assert done.tokens == 6
    assert len(done.token_s) == 2
    assert done.tpot_s == pytest.approx((done.last_s - done.first_s) / 5)


@pytest.mark.parametrize(
    "answer",
    [
        refusal("200 OK", b"".join(PLAIN)),
        b"HTTP/1.0 200 OK\r\n\r\n" + b"".join(PLAIN),
        b"HTTP/1.1 100 Continue\r\n\r\n" + stream(*PLAIN),
        stream(*PLAIN)[: -len(b"0\r\n\r\n")] + b"0;last\r\nX-Trailer: 1\r\n\r\n",
    ],
    ids=["length", "until closed", "interim", "trailer"],
)
def test_every_framing_of_http_is_read(answer: bytes) -> None:
    with answering(answer) as server:
        assert "".join(server.stream("x")) == "west lake"
        assert (loaded(server)[0].outcome, loaded(server)[0].tokens) == ("ok", 2)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_counts_and_is_shown_apart(field: str) -> None:
    thought = (event({field: "hm ", "content": None}), event({field: "so"}, "length"))
    with answering(stream(ROLE, *thought, counts(2, reasoning_tokens=2), DONE)) as server:
        heard: list[str] = []
        streamed = server.stream("x", on_reasoning=heard.append)
        assert list(streamed) == []
        assert (streamed.reasoning, heard) == ("hm so", ["hm ", "so"])
        assert (streamed.stats.tokens, streamed.stats.reasoning_tokens) == (2, 2)
        done, _ = loaded(server)
    assert (done.outcome, done.tokens, done.reasoning_tokens) == ("ok", 2, 2)
    assert done.first_s is not None
    assert done.first_s == done.token_s[0] <= done.last_s


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
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", Unreachable, "not an answer", "SSH"),
}


@pytest.mark.parametrize(("answer", "error", "kind", "words"), FAILURES.values(), ids=FAILURES)
def test_a_failure_says_what_happened(
    answer: bytes, error: type[QwenkitError], kind: str, words: str
) -> None:
    with answering(answer) as server:
        with pytest.raises(QwenkitError) as caught:
            list(server.stream("x"))
        assert type(caught.value) is error
        if answer.startswith(b"HTTP"):
            assert words in str(caught.value)
        done, said = loaded(server)
    assert (done.outcome, done.why) == ("failed", kind)
    assert words in said


@pytest.mark.parametrize("part", [b"Content-Length: -1\r\n\r\nab", HEAD[17:] + b"\r\n-2\r\nab"])
def test_a_part_of_negative_length_does_not_hang(part: bytes) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n" + part) as server:
        done, said = loaded(server)
    assert done.why == "not an answer"
    assert "its answer is not HTTP: a part of -" in said


@pytest.mark.parametrize("proxied", [False, True])
def test_a_connection_that_was_closed_while_idle_costs_no_request(
    monkeypatch: pytest.MonkeyPatch, *, proxied: bool
) -> None:
    kept = stream(*PLAIN).replace(b"Connection: close\r\n", b"")
    with answering(kept, by=Closing) as server:
        if proxied:
            monkeypatch.setenv("http_proxy", server.gateway)
            server.gateway = "http://192.0.2.1"
        traffic = OpenLoop((Arrival(0.0, 20, 8), Arrival(0.1, 20, 8), Arrival(0.2, 20, 8)))
        summary = start_load(server, traffic).result().summary()
    assert (summary["requests"], summary["ok"], summary["errors"]) == (3, 3, {})


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


def test_a_server_that_knows_no_stream_options_is_asked_without() -> None:
    unknown = refusal("400 Bad Request", b'{"message":"extra fields not permitted"}')
    parts = stream(ROLE, say("a"), say("b", "stop"), DONE)
    with answering(unknown, parts) as server:
        streamed = server.stream("x")
        assert "".join(streamed) == "ab"
        assert streamed.stats.tokens == 2
    with answering(unknown, parts) as server:
        traffic = OpenLoop((Arrival(0.0, 9, 8), Arrival(0.2, 9, 8)))
        summary = start_load(server, traffic).result().summary()
        assert (summary["ok"], summary["tokens"]) == (2, 4)
        assert ["stream_options" in body for body in server.asked] == [True, False, False]
    with answering(unknown) as server:
        done, said = loaded(server)
    assert (done.why, done.status) == ("http 400", 400)
    assert "extra fields not permitted" in said


def test_the_gateway_may_tell_who_answered_and_the_clock() -> None:
    told = b"X-Qwenkit-Pod: qwen-1-abc\r\nX-Qwenkit-Revision: qwen-00001\r\nX-Qwenkit-Clock: 10\r\n"
    with answering(stream(*PLAIN, headers=told)) as server:
        result = start_load(server, ONCE).result()
    assert (result.requests[0].pod, result.requests[0].revision) == ("qwen-1-abc", "qwen-00001")
    assert result.summary()["served_by"] == {"qwen-1-abc": 1}
    assert result.summary()["clock"] == 10


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_named_and_loopback_needs_none(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy)
    far = Server("http://192.0.2.1", "h", model="qwen", timeout_s=2)
    for fails in (lambda: far.ask("x"), lambda: start_load(far, ONCE)):
        with pytest.raises(QwenkitError, match=r"192\.0\.2\.1") as caught:
            fails()
        assert "ALL_PROXY" in caught.value.fix
    with pytest.raises(QwenkitError, match=r"192\.0\.2\.1"):
        far.without_host()
    with answering(stream(*PLAIN)) as server:
        assert "".join(server.stream("x")) == "west lake"
        assert loaded(server)[0].outcome == "ok"
