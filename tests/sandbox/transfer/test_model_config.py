"""Where the configuration of a model is found, and that nothing waits long for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from servers import Servers
from transfer_world import BUCKET, World

from qwenkit.errors import InvalidValue
from qwenkit.settings import Settings
from qwenkit.steps import resolve
from qwenkit.weights import model_config
from qwenkit.weights.model_config import read_model_config

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_config, "_known", {})
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "transfer-test")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "transfer-secret")


def of(source: str, place: World | None = None, **values: Any) -> Settings:
    hubs = {"modelscope_endpoint": "http://127.0.0.1:9", "hf_endpoint": "http://127.0.0.1:9"}
    where = {"bucket": BUCKET, "oss_region": "cn-hangzhou"} if place else {}
    url = {"oss_endpoint": place.url} if place else {}
    return Settings(model_source=source, **(hubs | where | url | values))


def hub(servers: Servers, answers: list[str], body: object = CONFIG) -> str:
    async def answer(request: web.Request) -> web.Response:
        answers.append(request.path_qs)
        return web.Response(text=body if isinstance(body, str) else json.dumps(body))

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return servers.serve(app)


def test_a_folder_that_holds_only_its_configuration_decides(tmp_path: Path) -> None:
    folder = tmp_path / "Mine-0.1B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    settings = resolve(of(str(folder), gpu="A10"))
    assert settings.model is not None
    assert settings.model.layers == 4
    assert (settings.max_model_len, settings.mount_path) == (1024, "/Mine-0.1B")
    assert "derived from config.json of Mine-0.1B" in settings.changes()
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_key_value_heads": 3}))
    with pytest.raises(InvalidValue, match="num_key_value_heads"):
        resolve(of(str(folder)))


def test_a_public_model_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_config, "_asked", lambda *_: pytest.fail("it asked"))
    found = read_model_config(of("hf:somebody/Qwen3-8B"))
    assert found is not None
    assert found.architecture == "Qwen3ForCausalLM"


def test_the_bucket_is_asked_before_the_hub(place: World) -> None:
    place.bucket.put_object("Own-1B/config.json", json.dumps(CONFIG))
    found = read_model_config(of("hf:me/Own-1B", place))
    assert found is not None
    assert found.context == 1024


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("modelscope:me/Own-1B@v2",
         "/api/v1/models/me/Own-1B/repo?Revision=v2&FilePath=config.json"),
        ("hf:me/Own-1B", "/me/Own-1B/resolve/main/config.json"),
    ],
)  # fmt: skip
def test_the_hub_is_asked_last_and_once(place: World, source: str, path: str) -> None:
    asked: list[str] = []
    url = hub(place.servers, asked)
    settings = of(source, place, modelscope_endpoint=url, hf_endpoint=url)
    for _ in range(3):
        assert read_model_config(settings) is not None
    assert asked == [path]


@pytest.mark.parametrize("body", ["<html>", "[]", '{"model_type": "bert"}', "9" * 100])
def test_what_is_no_configuration_is_as_good_as_none(
    place: World, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = hub(place.servers, [], body)
    settings = of("hf:me/Own-1B", place, hf_endpoint=url)
    with caplog.at_level("INFO", logger="qwenkit.weights"):
        assert read_model_config(settings) is None
    assert "no config.json of hf:me/Own-1B" in caplog.text
    assert resolve(settings).quantization == ""


def test_nothing_that_can_be_reached_refuses_nothing() -> None:
    assert read_model_config(of("modelscope:me/Own-1B")) is None
    assert resolve(of("modelscope:me/Own-1B", gpu="A10")).contradictions() == []
