"""A server that wants an API key: where it comes from, and that it never shows."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_api import KSVC, Api, obj, write_kubeconfig
from cluster_api import serving as serving_api
from inference_server import HOST, PIECES, Vllm, serving

from qwenkit.cli import main

KEY = "sk-of-the-server-1"
Answer = tuple[int, str]


@pytest.fixture
def vllm() -> Vllm:
    found = Vllm()
    found.key = KEY
    return found


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def qwenkit(
    api: Api,
    vllm: Vllm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Callable[..., Answer]]:
    """Run a command; return its exit code and all that it shows."""
    with serving_api(api.app()) as cluster, serving(vllm) as gateway:
        path = write_kubeconfig(tmp_path / "config", cluster, context="mine")
        monkeypatch.setenv("KUBECONFIG", str(path))
        monkeypatch.setenv("QWENKIT_CONTEXT", "mine")
        monkeypatch.setenv("QWENKIT_GATEWAY", gateway)
        monkeypatch.setenv("QWENKIT_API_KEY_SECRET", "vllm-key")
        api.add(obj(KSVC, "qwen", status={"url": f"http://{HOST}"}))

        def run(*words: str) -> Answer:
            monkeypatch.setattr(sys, "argv", ["qwenkit", *words])
            code = main.main()
            shown = capsys.readouterr()
            assert KEY not in shown.out + shown.err
            return code, shown.out + shown.err

        yield run


def secret(api: Api, **data: str) -> None:
    encoded = {
        name.replace("_", "-"): base64.b64encode(value.encode()).decode()
        for name, value in data.items()
    }
    api.add(obj("v1/Secret", "vllm-key", data=encoded))


def test_query_and_load_read_it_from_the_secret(
    api: Api, vllm: Vllm, qwenkit: Callable[..., Answer]
) -> None:
    secret(api, api_key=f"{KEY}\n")
    assert qwenkit("query", "x") == (0, "".join(PIECES) + "\n")
    assert qwenkit("load", "--clients", "1", "--seconds", "0.1", "--json")[0] == 0
    code, command = qwenkit("query", "x", "--curl")
    assert (code, "Bearer $OPENAI_API_KEY" in command) == (0, True)


def test_the_environment_s_own_key_wins(
    vllm: Vllm, qwenkit: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    assert qwenkit("query", "x")[0] == 0


def test_what_is_wrong_with_the_secret_is_said(api: Api, qwenkit: Callable[..., Answer]) -> None:
    code, shown = qwenkit("query", "x")
    assert (code, "secret vllm-key gives no API key" in shown) == (1, True)
    assert "create secret generic vllm-key --from-literal=api-key=" in shown
    secret(api, key="1")
    assert "it has no key api-key" in qwenkit("query", "x")[1]
    secret(api, api_key="two words")
    assert qwenkit("query", "x")[0] == 2
    secret(api, api_key="another-key")
    code, shown = qwenkit("query", "x")
    assert (code, "got none or another" in shown) == (1, True)
    denied = {"kind": "Status", "message": "secrets is forbidden", "code": 403}
    api.refuse = lambda _verb, path, _body: (403, denied) if "/secrets/" in path else None
    code, shown = qwenkit("query", "x")
    assert (code, "export OPENAI_API_KEY" in shown) == (1, True)
