"""Every public model on every GPU: ``plan`` answers, or says what would fit."""

from __future__ import annotations

import json

import pytest

from qwenkit.capacity.gpu import GPUS
from qwenkit.cli import main
from qwenkit.plan import report
from qwenkit.plan.planner import make_plan
from qwenkit.plan.question import Question
from qwenkit.settings import Settings

MODELS = [
    *("qwen/Qwen-7B-Chat-Int8", "qwen/Qwen1.5-0.5B-Chat", "qwen/Qwen1.5-7B-Chat"),
    *("qwen/Qwen1.5-14B-Chat-GPTQ-Int4", "qwen/Qwen1.5-72B-Chat", "qwen/Qwen2-7B-Instruct"),
    *("qwen/Qwen2.5-7B-Instruct", "qwen/Qwen2.5-14B-Instruct-AWQ", "qwen/Qwen2.5-32B-Instruct"),
    *("qwen/Qwen2.5-72B-Instruct", "qwen/Qwen2.5-72B-Instruct-GPTQ-Int4", "Qwen/Qwen3-0.6B"),
    *("Qwen/Qwen3-1.7B", "Qwen/Qwen3-4B", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-14B"),
    *("Qwen/Qwen3-32B-AWQ", "Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-235B-A22B-FP8"),
    *("LLM-Research/Meta-Llama-3-8B-Instruct", "deepseek-ai/DeepSeek-V2-Lite-Chat"),
]


def ask(source: str, gpu: str, count: int = 1, **question: object) -> dict[str, object]:
    settings = Settings.load(
        text={"model_source": f"modelscope:{source}", "gpu": gpu, "gpu_count": str(count)}
    )
    asked = {"clients": 2, "seconds": 60, "startup_s": 50.0, "recommend": False} | question
    return report.as_dict(make_plan(settings, Question(**asked)))


@pytest.mark.parametrize("source", MODELS)
def test_a_model_on_every_gpu_has_an_answer(source: str) -> None:
    for number, gpu in enumerate(GPUS):
        answer = ask(source, gpu, count=1 + number % 2)
        json.dumps(answer, allow_nan=False)
        if answer["memory"]["fits"]:
            assert answer["simulation"]["answered"] > 0
            assert answer["alternatives"] == []
        else:
            assert answer["memory"]["problems"]
            assert answer["alternatives"] or "Qwen1.5-72B" in source
            assert answer["simulation"] is None


@pytest.mark.parametrize(
    ("source", "gpu", "count"),
    [
        ("Qwen/Qwen3-8B", "L20", 1),
        ("qwen/Qwen2.5-14B-Instruct", "A10", 2),
        ("Qwen/Qwen3-30B-A3B", "H100", 1),
        ("Qwen/Qwen2.5-0.5B-Instruct", "V100-16", 0),
    ],
)
def test_settings_are_recommended_for_any_of_them(source: str, gpu: str, count: int) -> None:
    answer = ask(source, gpu, count, recommend=True, rate_per_s=1.0, clients=None, startup_s=20.0)
    best = answer["recommendation"]["simulation"]
    assert best["misses"] == []
    assert best["cost_per_hour"] <= answer["simulation"]["cost_per_hour"] * 1.01


def test_a_replica_costs_all_its_gpus() -> None:
    one = ask("qwen/Qwen2.5-7B-Instruct", "L20", price_per_gpu_hour=10.0)
    two = ask("qwen/Qwen2.5-7B-Instruct", "L20", 2, price_per_gpu_hour=10.0, gpus=4)
    assert two["simulation"]["gpu_seconds"] == pytest.approx(
        2 * one["simulation"]["gpu_seconds"], rel=0.1
    )
    assert (two["gpus"], two["gpu_count"]) == (4, 2)
    assert two["simulation"]["ttft_p95_s"] < one["simulation"]["ttft_p95_s"]


def test_a_folder_with_its_configuration_is_enough(tmp_path, monkeypatch, capsys) -> None:
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        **{"num_hidden_layers": 48, "hidden_size": 5120, "num_attention_heads": 40},
        **{"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 17408},
        **{"vocab_size": 151936, "max_position_embeddings": 40960, "torch_dtype": "bfloat16"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    for own, code in (({"gpu": "A100-80"}, 0), ({"gpu": "A10"}, 1)):
        words = [f"--set={key}={value}" for key, value in own.items()]
        source = f"--set=model_source={tmp_path}"
        monkeypatch.setattr("sys.argv", ["qwenkit", "plan", "--json", source, *words])
        assert main.main() == code
        answer = json.loads(capsys.readouterr().out)
        assert answer["model"] == tmp_path.name
        assert ("gpu_count=2" in answer["alternatives"]) == bool(code)
