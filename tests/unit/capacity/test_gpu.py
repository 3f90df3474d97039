"""GPU arithmetic against the reference tables, and what does not fit."""

from __future__ import annotations

import pytest

from qwenkit.capacity.catalogue import QWEN_7B_INT8, find_model
from qwenkit.capacity.gpu import (
    GIB,
    GPUS,
    find_gpu,
    gpu_of_label,
    mig_slice,
)
from qwenkit.capacity.memory import fit
from qwenkit.errors import InvalidValue

NAMES = sorted(GPUS)
QWEN_7B = find_model("Qwen-7B-Chat")


@pytest.mark.parametrize(
    ("name", "kv_gib", "tokens"),
    [
        ("T4", 3.7, 7_550),
        ("V100-16", 4.75, 9_730),
        ("A10", 10.7, 21_840),
        ("V100-32", 19.9, 40_800),
    ],
)
def test_capacity_table(name: str, kv_gib: float, tokens: int) -> None:
    got = fit(name, QWEN_7B_INT8)
    assert got.fits
    assert got.kv_gib == pytest.approx(kv_gib, abs=0.05)
    assert got.kv_tokens == pytest.approx(tokens, rel=0.005)
    assert got.sequences == pytest.approx(tokens / 6144, rel=0.005)


def test_sizes_of_the_model() -> None:
    assert QWEN_7B.weights_bytes / 1e9 == pytest.approx(15.44, abs=0.01)
    assert QWEN_7B_INT8.weights_bytes / GIB == pytest.approx(8.49, abs=0.01)
    assert QWEN_7B_INT8.kv_bytes_per_token == 524_288


@pytest.mark.parametrize(("name", "fits"), [("T4", False), ("V100-16", False), ("A10", True)])
def test_fp16_does_not_fit_16_gb(name: str, fits: bool) -> None:
    got = fit(name, "Qwen-7B-Chat")
    assert got.fits is fits
    assert bool(got.problems) is not fits


def test_a_context_beyond_the_cache_is_a_problem() -> None:
    got = fit("T4", QWEN_7B_INT8, max_model_len=9000)
    assert not got.fits
    assert "max-model-len 9000" in got.problems[0]


def test_unknown_names_and_impossible_values_are_refused_by_name() -> None:
    for call in (
        lambda: fit("", QWEN_7B_INT8),
        lambda: fit("T4", "GPT-9"),
        lambda: fit("T4", QWEN_7B_INT8, max_model_len=0),
        lambda: fit("T4", QWEN_7B_INT8, gpu_memory_utilization=1.2),
    ):
        with pytest.raises(InvalidValue) as caught:
            call()
        assert caught.value.name
        assert caught.value.rule


def test_the_table_holds_what_nodes_are_called() -> None:
    assert len(GPUS) == 15
    for gpu in GPUS.values():
        assert gpu_of_label(gpu.label) is gpu
        assert find_gpu(gpu.name.replace("-", " ").lower()) is gpu
        assert find_gpu(f"{gpu.name} {gpu.named_gb}GB") is gpu
        for other in gpu.others:
            assert gpu_of_label(other.replace(" ", "-")) is gpu
        assert gpu.compute_capability >= 7.0


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Tesla-V100-SXM2-16GB", "V100-16"),
        ("NVIDIA-A10", "A10"),
        ("Tesla-T4-SHARED", "T4"),
        ("NVIDIA-A100-80GB-PCIe", "A100-80"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("NVIDIA-GeForce-RTX-4090", "RTX-4090"),
        ("NVIDIA-RTX-6000-Ada-Generation", "RTX-6000-Ada"),
        ("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", "A100-80-MIG-3g.40gb"),
        ("NVIDIA-H200-MIG-1g.18gb-SHARED", "H200-MIG-1g.18gb"),
        ("A100-80GB", "A100-80"),
        ("NVIDIA-A100-SXM4-40GB-MIG-3g.40gb", None),  # the 40 GB card has 3g.20gb
        ("NVIDIA-A10G", None),
        ("A100", None),
        ("", None),
    ],
)
def test_a_node_label_names_its_gpu(label: str, name: str | None) -> None:
    found = gpu_of_label(label)
    assert (found.name if found else None) == name


def test_a_slice_has_its_share() -> None:
    whole, part = GPUS["A100-80"], find_gpu("A100-80-MIG-3g.40gb")
    assert mig_slice(whole, "nvidia.com/mig-3g.40gb") == part
    assert find_gpu("nvidia a100 80gb pcie-mig-3g.40gb") == part
    assert part.usable_gib == whole.usable_gib / 2
    assert part.bandwidth_gb_s == whole.bandwidth_gb_s / 2
    assert part.fp16_tflops == pytest.approx(whole.fp16_tflops * 3 / 7)
    assert gpu_of_label(part.label) == part
    for gpu, profile in (("A10", "1g.6gb"), ("A100-40", "3g.40gb"), ("H100", "all"), ("H100", "")):
        with pytest.raises(InvalidValue) as caught:
            mig_slice(GPUS[gpu], profile)
        assert caught.value.name == "gpu_resource"
    with pytest.raises(InvalidValue, match="MIG"):
        mig_slice(part, "1g.10gb")  # slices are not sliced again


def test_an_ambiguous_name_is_asked_back() -> None:
    asked = {"A100": "A100-40 or A100-80", "A10G": "A10", "RTX 3090 Ti": "RTX-3090", "L40": "L40S"}
    for name, near in asked.items():
        with pytest.raises(InvalidValue) as caught:
            find_gpu(name)
        assert caught.value.fix == f"name {near}"
