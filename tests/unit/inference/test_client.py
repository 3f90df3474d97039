from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from inference_server import HOST, PIECES, Vllm, serving

from qwenkit.capacity.simulation.traffic import ClosedLoop
from qwenkit.errors import (
    Forbidden,
    InvalidValue,
    NotFound,
    NotReady,
    QwenkitError,
    Rejected,
    Unreachable,
    WaitTimeout,
)
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import start_load
from qwenkit.inference.raw import curl_command

TEXT = "".join(PIECES)


@pytest.fixture
def vllm() -> Vllm:
    return Vllm()


@pytest.fixture
def url(vllm: Vllm, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # Nobody answers there: a client that heeds it cannot reach the server.
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with serving(vllm) as url:
        yield url


@pytest.fixture
def server(url: str) -> Iterator[Server]:
    server = Server(url, HOST, model="qwen", timeout_s=10)
    yield server
    server.close()


def test_a_server_that_nobody_closes_leaves_no_connection(url: str) -> None:
    class Kept:
        """Lets the server live until the collector comes."""

    kept: Any = Kept()
    kept.server, kept.itself = Server(url, HOST, model="qwen", timeout_s=10), kept
    assert kept.server.ask("杭州西湖").text == TEXT
    del kept
    gc.collect()  # warnings are errors: a socket that it finds open fails the test


def test_an_answer_has_text_usage_and_the_raw_json(server: Server, vllm: Vllm) -> None:
    answer = server.ask("杭州西湖", max_tokens=3, temperature=0.7, top_p=0.9, seed=10)
    assert (answer.text, answer.finish_reason) == (TEXT, "length")
    assert answer.usage["completion_tokens"] == 3
    assert answer.raw["choices"][0]["stop_reason"] is None
    assert answer.seconds > 0
    assert vllm.bodies == [
        {
            "model": "qwen",
            "messages": [{"role": "user", "content": "杭州西湖"}],
            "max_tokens": 3,
            "temperature": 0.7,
            "top_p": 0.9,
            "seed": 10,
        }
    ]


def test_the_client_is_an_ordinary_one(server: Server, vllm: Vllm) -> None:
    done = server.client.chat.completions.create(
        model="qwen", messages=[{"role": "user", "content": "x"}]
    )
    assert done.choices[0].message.content == TEXT
    assert vllm.headers[0]["Authorization"] == "Bearer none"


def test_the_key_comes_from_the_environment_and_never_shows(
    url: str, vllm: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server = Server(url, HOST, model="qwen", timeout_s=10)
    server.ask("x")
    assert vllm.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in repr(server) + server.curl("x")
    if shutil.which("curl"):
        command = ["sh", "-c", server.curl("x")]
        subprocess.run(command, env=os.environ | server.shell, check=True, timeout=60)
        assert vllm.headers[1]["Authorization"] == "Bearer sk-secret"
    server.close()


def test_a_model_without_a_chat_template_is_said(server: Server, vllm: Vllm) -> None:
    vllm.status, vllm.says = 400, "As of transformers v4.44, default chat template is no longer"
    with pytest.raises(Rejected, match="answered 400") as caught:
        server.ask("x")
    assert "has no chat template" in caught.value.why
    assert "--chat-template" in caught.value.fix


def test_a_stream_gives_pieces_then_statistics(server: Server, vllm: Vllm) -> None:
    vllm.delay_s = 0.01
    stream = server.stream("x")
    with pytest.raises(QwenkitError, match="no statistics yet"):
        _ = stream.stats
    assert tuple(stream) == PIECES
    stats = stream.stats
    assert (stats.tokens, stats.finish_reason) == (3, "length")
    assert 0 < stats.ttft_s < stats.seconds
    assert 0 < stats.tpot_s < stats.seconds


def test_tokens_are_counted_where_the_server_does_not(server: Server, vllm: Vllm) -> None:
    vllm.usage = False
    stream = server.stream("x")
    assert "".join(stream) == TEXT
    assert stream.stats.tokens == 3


def test_a_cut_stream_is_an_error(server: Server, vllm: Vllm) -> None:
    vllm.cut = True
    with pytest.raises(QwenkitError, match="cut after 1 tokens"):
        list(server.stream("x"))


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (400, Rejected, "no upstream"),
        (401, Forbidden, "api_key_secret"),
        (404, NotFound, "status.url"),
        (502, Unreachable, "starting or ending"),
        (503, NotReady, "qwenkit explain"),
        (504, WaitTimeout, "request_timeout_s"),
        (500, QwenkitError, "no upstream"),
    ],
)
def test_each_status_has_its_error(
    server: Server, vllm: Vllm, code: int, error: type[QwenkitError], words: str
) -> None:
    vllm.status = code
    for ask in (server.ask, lambda prompt: list(server.stream(prompt))):
        with pytest.raises(QwenkitError) as caught:
            ask("x")
        assert type(caught.value) is error
        assert words in str(caught.value)
        assert caught.value.context["status"] == code


@pytest.mark.parametrize(
    "odd",
    [
        b"<html>welcome</html>",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'{"choices": null}',
        b'{"choices": {}}',
        b'{"choices": [7]}',
        b'{"choices": [{"delta": 7, "message": 7}]}',
        b'{"choices": [{"delta": null, "message": null}]}',
        b'{"object": "error", "message": "CUDA error"}',
        b'{"error": {"message": "CUDA error"}}',
        b'{"usage": 7, "choices": [{"message": {"content": "x"}, "delta": {"content": 7}}]}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=lambda odd: odd[:60].decode("latin-1"),
)
def test_what_is_no_answer_is_an_error_of_ours(server: Server, vllm: Vllm, odd: bytes) -> None:
    vllm.odd = odd
    for ask in (server.ask, lambda prompt: list(server.stream(prompt))):
        with pytest.raises(QwenkitError) as caught:
            ask("x")
        assert caught.value.why
        assert caught.value.fix
    done = start_load(server, ClosedLoop(((0, 1),)), seconds=0.1, prompt="x").result()
    assert {request.outcome for request in done.requests} == {"failed"}


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (b"<html>Log in</html>", "no JSON, it begins with '<html>Log in"),
        (b'{"object": "error", "message": "CUDA error"}', "CUDA error"),
        (b'{"error": {"message": "CUDA error", "code": 500}}', "CUDA error"),
        (b'{"choices": [{"message": {"content": ["x"]}}]}', "the text is a list"),
        (
            b'{"choices": [{"message": {"content": "x"}, "finish_reason": "abort"}]}',
            "finish_reason: abort",
        ),
    ],
)
def test_what_came_instead_of_an_answer_is_said(
    server: Server, vllm: Vllm, odd: bytes, words: str
) -> None:
    vllm.odd = odd
    with pytest.raises(QwenkitError, match=r"http://127") as caught:
        server.ask("x")
    assert words in caught.value.why


def test_an_answer_that_trickles_is_given_up(server: Server, vllm: Vllm) -> None:
    vllm.delay_s = 0.15  # each piece in time, the whole answer not
    server.timeout_s = 0.2
    with pytest.raises(WaitTimeout, match=r"not whole within 0\.2 s: [12] tokens came"):
        list(server.stream("x"))


def test_a_wrong_host_and_a_wrong_model_have_different_errors(url: str) -> None:
    lost = Server(url, "other.default.example.com", model="qwen", timeout_s=10)
    with pytest.raises(NotFound, match="answered 404") as caught:
        lost.ask("x")
    assert "other.default.example.com" in caught.value.why
    lost.close()
    misnamed = Server(url, HOST, model="gpt-4", timeout_s=10)
    with pytest.raises(NotFound, match="gpt-4") as caught:
        misnamed.ask("x")
    assert "served_model_name" in caught.value.fix
    misnamed.close()


def test_without_host_shows_the_gateway_s_404(server: Server) -> None:
    assert server.without_host().status == 404


def test_nobody_there(vllm: Vllm) -> None:
    with serving(vllm) as gone:
        pass
    server = Server(gone, HOST, model="qwen", timeout_s=5)
    with pytest.raises(Unreachable, match=gone):
        server.ask("x")
    with pytest.raises(Unreachable, match=gone):
        server.without_host()
    server.close()


def test_a_server_that_hangs_is_given_up(url: str, vllm: Vllm) -> None:
    vllm.hang = True
    server = Server(url, HOST, model="qwen", timeout_s=0.2)
    with pytest.raises(WaitTimeout, match=r"within 0\.2 s"):
        server.ask("x")
    server.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_command_can_be_pasted(server: Server, vllm: Vllm) -> None:
    command = server.curl("杭州'西湖\" $HOME", max_tokens=3)
    assert "杭州" in command
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == TEXT
    assert vllm.bodies[0] == server.body("杭州'西湖\" $HOME", max_tokens=3)


def test_the_curl_command_is_the_page_s() -> None:
    command = curl_command("47.1.2.3:80", HOST, {"model": "qwen", "max_tokens": 10})
    assert command == (
        f"curl -H 'Host: {HOST}' -H 'Content-Type: application/json' "
        "http://47.1.2.3:80/v1/chat/completions "
        '-d \'{"model": "qwen", "max_tokens": 10}\''
    )


@pytest.mark.parametrize(
    "gateway", ["", "http://", "ftp://x", "//", "http://h:99999", "http://h:x", "http://[::1"]
)
def test_an_address_must_be_one(gateway: str) -> None:
    with pytest.raises(InvalidValue, match="gateway"):
        Server(gateway, HOST, model="qwen")


def test_stop_tokens_are_sent_unless_the_request_has_its_own(url: str, vllm: Vllm) -> None:
    server = Server(url, HOST, model="qwen", timeout_s=10, stop_token_ids=(151645, 151643))
    server.ask("x")
    list(server.stream("x", stop_token_ids=[7]))
    assert [body["stop_token_ids"] for body in vllm.bodies] == [[151645, 151643], [7]]
    assert "stop_token_ids" not in server.curl("x")
    server.close()
