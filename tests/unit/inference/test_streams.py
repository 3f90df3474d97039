"""The forms of a stream that servers and gateways send: each gives the right numbers."""

from __future__ import annotations

import gzip

import pytest
from raw_server import (
    DONE,
    HEAD,
    ONCE,
    PLAIN,
    ROLE,
    Closing,
    answering,
    counts,
    event,
    loaded,
    refusal,
    say,
    stream,
)

from qwenkit.capacity.simulation.traffic import Arrival, OpenLoop
from qwenkit.errors import QwenkitError
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import start_load


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
        (b": keep-alive\n\n", ROLE, b"event: ping\ndata: {}\n\n", b"data:\n\n", *PLAIN[1:]),
        (ROLE, event({"content": ""}), event({}), event({"content": None}), *PLAIN[1:]),
        (*PLAIN[:2], say("lake"), event({"content": ""}, "length"), counts(2), DONE),
        PLAIN[:-1],
    ],
    ids=[
        *("plain", "at once", "comment", "no space", "CRLF", "CR", "fields", "lines", "bytes"),
        *("pings", "empty deltas", "the reason alone", "no [DONE]"),
    ],
)
def test_every_form_of_the_same_stream_gives_the_same_numbers(parts: tuple[bytes, ...]) -> None:
    with answering(stream(*parts)) as server:
        streamed = server.stream("x")
        assert "".join(streamed) == "west lake"
        assert (streamed.stats.tokens, streamed.stats.finish_reason[:1]) in ((2, "s"), (2, "l"))
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
        stream(gzip.compress(b"".join(PLAIN)), headers=b"Content-Encoding: gzip\r\n"),
    ],
    ids=["length", "until closed", "interim", "trailer", "gzip"],
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


def test_one_delta_may_end_the_reasoning_and_begin_the_answer() -> None:
    both = event({"reasoning": "so", "content": "west "})
    with answering(stream(event({"reasoning": "hm "}), both, say("lake", "stop"), DONE)) as server:
        streamed = server.stream("x")
        assert "".join(streamed) == "west lake"
        assert (streamed.reasoning, streamed.stats.reasoning_tokens) == ("hm so", 2)
        assert (loaded(server)[0].tokens, loaded(server)[0].reasoning_tokens) == (4, 2)


def test_reasoning_alone_is_all_that_the_server_counted() -> None:
    with answering(stream(event({"reasoning": "hm so"}, "length"), counts(7), DONE)) as server:
        streamed = server.stream("x")
        assert list(streamed) == []
        assert streamed.stats.reasoning_tokens == loaded(server)[0].reasoning_tokens == 7


def test_halves_of_a_character_can_be_printed() -> None:
    with answering(stream(say("\ud83d"), say("\ude00", "stop"), DONE)) as server:
        assert "".join(server.stream("x")).encode() == "\ufffd\ufffd".encode()


def test_what_the_reader_of_the_reasoning_raises_is_its_own() -> None:
    def broken(_text: str) -> None:
        raise BrokenPipeError

    thinks = stream(event({"reasoning": "hm"}), DONE)
    with answering(thinks) as server, pytest.raises(BrokenPipeError):
        list(server.stream("x", on_reasoning=broken))


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
