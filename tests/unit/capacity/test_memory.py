"""KV cache as real servers print it, tensor parallelism, and what would fit instead."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import capacity_table
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.capacity.alternatives import what_would_fit
from qwenkit.capacity.catalogue import NAMES, find_known, find_model
from qwenkit.capacity.gpu import GPUS, find_gpu
from qwenkit.capacity.memory import LEAST_CAPABILITY, fit, uneven_split
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.errors import InvalidValue
from qwenkit.settings import Settings

DATA = Path(__file__).parents[2] / "data"
H200 = json.loads((DATA / "gpu/h200-vllm-0.26.json").read_text("utf-8"))


@pytest.mark.parametrize("point", [*capacity_table.kv_tokens()], ids=lambda point: point.what)
def test_kv_tokens_are_what_servers_print(point: capacity_table.Point) -> None:
    assert (abs(point.error) > 0.08) is bool(point.why)


@pytest.mark.parametrize("name", H200["runs"])
def test_kv_tokens_of_a_measured_v1_engine(name: str) -> None:
    run = H200["runs"][name]
    share = run["gpu_memory_utilization"]
    gpu = replace(find_gpu("H200"), usable_gib=run["room_gib"] / share)
    model = "Qwen-7B-Chat" if run["weights"] == "fp16" else "Qwen-7B-Chat-Int8"
    length, batched = run["max_model_len"], run["max_num_batched_tokens"]
    exact = fit(
        gpu, model, max_model_len=length, gpu_memory_utilization=share, batched_tokens=batched
    )
    assert exact.kv_tokens == pytest.approx(run["kv_tokens"], rel=0.02)


def test_the_old_engine_profiles_a_whole_prompt_the_new_one_a_chunk() -> None:
    old = fit("L20", "Qwen3-8B", max_model_len=40_960)
    new = fit("L20", "Qwen3-8B", max_model_len=40_960, batched_tokens=2048)
    assert old.activation_gib > 4 * new.activation_gib
    assert fit("L20", "Qwen3-8B", max_model_len=64).activation_gib == pytest.approx(1.39, abs=0.01)
    few = fit("L20", "Qwen3-8B", max_model_len=40_960, max_num_seqs=16)
    assert few.kv_tokens > old.kv_tokens


def test_tensor_parallelism_divides_weights_and_heads() -> None:
    one, four = find_model("Qwen2.5-7B"), find_model("Qwen2.5-7B").split(4)
    assert four.weights_bytes == one.weights_bytes / 4
    assert four.kv_bytes_per_token == one.kv_bytes_per_token / 4
    sixteen = find_model("Qwen3-30B-A3B").split(16)  # 4 KV heads: each is on four GPUs
    assert sixteen.kv_bytes_per_token == find_model("Qwen3-30B-A3B").kv_bytes_per_token / 4
    alone, shared = fit("A10", "Qwen2.5-7B"), fit("A10", "Qwen2.5-7B", gpus=2)
    assert shared.kv_tokens > 2 * alone.kv_tokens
    quick, slow = VllmServer("A10", "Qwen2.5-7B", gpus=2), VllmServer("A10", "Qwen2.5-7B")
    assert quick.prefill(1000) < slow.prefill(1000)
    with pytest.raises(InvalidValue, match="at least 1"):
        fit("A10", "Qwen2.5-7B", gpus=0)


def test_a_card_without_kernels_for_the_format_does_not_fit() -> None:
    assert fit("T4", "Qwen2.5-7B-Instruct-AWQ").fits
    found = fit("V100-32", "Qwen2.5-7B-Instruct-AWQ")
    assert found.problems == ("awq needs compute capability 7.5, V100-32 has 7",)
    assert not found.fits


@pytest.mark.parametrize(
    ("name", "gpus", "why"),
    [
        ("Qwen-7B-Chat-Int8", 2, ""),
        ("Qwen-7B-Chat-Int8", 4, "86 (FFN in groups of 128)"),
        ("Qwen1.5-14B-Chat-GPTQ-Int4", 2, "107 (FFN in groups of 128)"),
        ("Qwen2.5-7B", 8, "28 (attention heads)"),
        ("Qwen2-1.5B", 3, "151,936 (vocabulary)"),
        ("Qwen3-235B-A22B-FP8", 4, ""),
        ("Qwen3-235B-A22B-FP8", 8, "12 (expert FFN in groups of 128)"),
        ("Qwen3-30B-A3B", 3, "4 (KV heads)"),
    ],
)
def test_an_uneven_split_is_named(name: str, gpus: int, why: str) -> None:
    said = uneven_split(find_model(name), gpus)
    assert why in said
    assert bool(why) is bool(said)
    if why:
        assert not fit("H200", name, gpus=gpus).fits
        assert fit("H200", name, gpus=gpus).problems[0] == said


def applied(change: str, gpu: str, name: str, gpus: int) -> bool:
    """Whether the model fits once a change of ``what_would_fit`` is made."""
    made = dict(part.split("=") for part in change.split(", "))
    model = find_model(made.get("model_source", name))
    card = find_gpu(made.get("gpu", gpu))
    length = int(made.get("max_model_len", 6144))
    assert card.compute_capability >= LEAST_CAPABILITY.get(model.quantization, 0)
    return fit(card, model, gpus=int(made.get("gpu_count", gpus)), max_model_len=length).fits


@pytest.mark.parametrize("gpu", GPUS)
def test_every_model_fits_or_something_is_said_that_would(gpu: str) -> None:
    for shape in NAMES:
        known = find_known(shape)
        assert known is not None
        for name, gpus in [(known.siblings[-1], 1), *((shape, count) for count in (1, 2, 4, 8))]:
            changes = what_would_fit(gpu, name, gpus=gpus)
            if not changes:
                assert fit(gpu, name, gpus=gpus).fits, (name, gpus)
            for change in changes:
                assert applied(change, gpu, name, gpus), (name, gpus, change)


def test_the_cheapest_change_comes_first() -> None:
    said = what_would_fit("V100-16", "Qwen1.5-7B-Chat")
    assert said == (
        "model_source=modelscope:Qwen/Qwen1.5-7B-Chat-GPTQ-Int8",
        "gpu_count=2",
        "gpu=A10",
    )
    assert (
        what_would_fit("RTX 3090", "Qwen1.5-7B", max_model_len=32_768)[0] == "max_model_len=12016"
    )
    assert what_would_fit("T4", "Qwen3-235B-A22B")[0] == "gpu=H200, gpu_count=4"
    assert what_would_fit("V100-16", "Qwen2.5-7B-Instruct-AWQ")  # it fits, but no kernel runs there
    assert what_would_fit("T4", "Qwen-7B-Chat-Int8") == ()
    assert find_gpu("CPU").name not in GPUS  # nobody is advised to buy one
    with pytest.raises(InvalidValue) as caught:
        VllmServer("V100-16", "Qwen1.5-7B-Chat")
    assert "gpu=A10" in caught.value.fix


@pytest.mark.parametrize("model", ["DeepSeek-V2-Lite-Chat", "Qwen3-235B-A22B"])
def test_another_card_is_judged_with_its_own_engine(model: str) -> None:
    card = "T4"
    sizes = Settings(model_source=f"modelscope:a/{model}", gpu=card).sizes()
    for change in what_would_fit(**sizes):
        made = dict(part.split("=") for part in change.split(", "))
        count = int(made.pop("gpu_count", 1))
        found = Settings(**{"model_source": model, "gpu": card, "gpu_count": count, **made})
        assert fit(**found.sizes()).fits, change


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(sorted(GPUS)),
    st.sampled_from(NAMES),
    st.integers(1, 60_000),
    st.floats(0.3, 1),
    st.sampled_from([None, 2048, 8192]),
)
def test_more_room_never_holds_less(
    gpu: str, name: str, length: int, share: float, batched: int | None
) -> None:
    model = find_model(name)

    def tokens(length: int, share: float) -> int:
        return fit(
            gpu,
            model,
            max_model_len=length,
            gpu_memory_utilization=share,
            batched_tokens=batched,
        ).kv_tokens

    assert tokens(length, share) <= tokens(length, min(1.0, share + 0.1))
    assert tokens(length + 1000, share) <= tokens(length, share)
