from __future__ import annotations

import os
from pathlib import Path

import pytest

from qwenkit.errors import SettingsError
from qwenkit.parameters.pod_texts import parse_env, parse_node_selector, parse_tolerations
from qwenkit.settings import Settings

NAMES = ("prefix", "mount_path", "served_model_name")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("modelscope:qwen/Qwen-7B-Chat-Int8", ("Qwen-7B-Chat-Int8", "/Qwen-7B-Chat-Int8", "qwen")),
        ("hf:Qwen/Qwen3-8B@abc", ("Qwen3-8B", "/Qwen3-8B", "qwen")),
        ("modelscope:LLM-Research/Llama-3", ("Llama-3", "/Llama-3", "llama-3")),
        ("/srv/models/My-Qwen2/", ("My-Qwen2", "/My-Qwen2", "qwen")),
        ("/data/dev", ("dev", "/models/dev", "dev")),
    ],
)
def test_names_follow_from_the_source(source: str, expected: tuple[str, str, str]) -> None:
    settings = Settings(model_source=source)
    assert tuple(getattr(settings, name) for name in NAMES) == expected


def test_a_set_name_wins_wherever_it_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QWENKIT_MOUNT_PATH", "/weights")
    params = tmp_path / "params.yaml"
    params.write_text("prefix: mine/model\n")
    made = Settings.load(params, {"served_model_name": "m"}, model_source="hf:Qwen/Qwen3-8B")
    assert [getattr(made, name) for name in NAMES] == ["mine/model", "/weights", "m"]


def test_what_is_derived_is_shown_with_its_origin_and_not_passed_on() -> None:
    made = Settings(model_source="hf:Qwen/Qwen3-8B", prefix="mine")
    assert "derived from model_source" in made.changes()
    assert set(made.given) == {"model_source", "prefix"}
    again = made.derived({"prefix": "x", "dtype": "", "max_model_len": 9}, "config.json of Qwen3")
    assert (again.prefix, again.dtype, again.max_model_len) == ("mine", "", 9)
    assert (made.dtype, made.max_model_len) == ("half", 2048)
    assert "derived from config.json of Qwen3" in again.changes()


def test_a_folder_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Tiny").mkdir()
    monkeypatch.chdir(tmp_path / "Tiny")
    assert Settings(model_source=".").prefix == "Tiny"
    assert Settings(model_source="/").prefix == "Qwen-7B-Chat-Int8"
    assert os.path.basename(Settings(model_source="~").mount_path) == Path.home().name


def test_texts_of_pods_are_read() -> None:
    assert parse_env("A=1,B=0,1,C=") == {"A": "1", "B": "0,1", "C": ""}
    label = "aliyun.accelerator/nvidia_name=NVIDIA-A10"
    assert parse_node_selector(label) == {"aliyun.accelerator/nvidia_name": "NVIDIA-A10"}
    assert parse_tolerations("nvidia.com/gpu:NoSchedule,pool=llm:NoExecute") == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "pool", "operator": "Equal", "value": "llm", "effect": "NoExecute"},
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("env", "LOUD"),
        ("env", "A=1,A=2"),
        ("env", "1A=2"),
        ("node_selector", "gpu"),
        ("node_selector", "a=b=c"),
        ("tolerations", "gpu:Never"),
        ("tolerations", "NoSchedule"),
        ("shared_memory", "8GB"),
        ("api_key_secret", "My_Secret"),
    ],
)
def test_a_text_that_is_none_is_refused_with_its_form(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        Settings(**{name: text})
    assert "must be" in caught.value.rule


def test_the_flags_of_the_server_reach_the_model_of_it() -> None:
    flags = "--enforce_eager --max-num-seqs=32 --max-num-batched-tokens 4k -tp 2"
    flags += " --no-enable-chunked-prefill"
    newer = {"gpu": "A10", "image": "vllm/vllm-openai:v0.11.0"}
    found = Settings(extra_args=flags, **newer).sizes()
    expected = {"gpus": 2, "max_num_seqs": 32, "batched_tokens": 4000, "eager": True}
    expected["chunked_prefill"] = False
    assert expected.items() <= found.items()
    whole = Settings(command="exec vllm serve /m --max-model-len 1K & wait", **newer).sizes()
    assert (whole["max_model_len"], whole["eager"], whole["max_num_seqs"]) == (1024, False, 256)
    assert Settings(extra_args="an open '").sizes()["max_num_seqs"] == 256
