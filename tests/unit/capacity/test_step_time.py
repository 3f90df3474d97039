"""One formula for every step: its seam, its steps of 8 rows, what published servers did."""

from __future__ import annotations

from dataclasses import replace

import capacity_table
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.capacity.catalogue import QWEN_7B_INT8, find_model
from qwenkit.capacity.gpu import GPUS, find_gpu
from qwenkit.capacity.step_time import StepTime
from qwenkit.errors import InvalidValue

MODELS = ("Qwen-7B-Chat", "Qwen-7B-Chat-Int8", "Qwen3-30B-A3B", "Qwen2.5-7B-Instruct-AWQ")
LAST_PACKED = {"exllama": (24, 50), "awq": (255,)}  # rows: with 8 and 4 bits
any_time = st.builds(
    lambda gpu, model, eager, v1: StepTime(find_gpu(gpu), find_model(model), eager, v1),
    st.sampled_from(sorted(GPUS)),
    st.sampled_from(MODELS),
    st.booleans(),
    st.booleans(),
)


@settings(deadline=None)
@given(any_time, st.integers(1, 250), st.floats(0, 4000), st.floats(0, 4000))
def test_more_context_and_longer_prompts_take_longer(
    time: StepTime, batch: int, context: float, more: float
) -> None:
    assert time.decode(batch, context + more) >= time.decode(batch, context)
    few, many = int(context), int(context) + int(more)
    # Where a kernel begins to write fp16, one row more may take less than one row fewer.
    if not any(few <= last < many for last in LAST_PACKED.get(time.kernel, ())):
        assert time.prefill(many) >= time.prefill(few)


@settings(deadline=None)
@given(any_time, st.integers(1, 250), st.integers(0, 4000))
def test_a_decode_step_and_a_prompt_of_one_token_agree(
    time: StepTime, batch: int, context: int
) -> None:
    """Without a graph, rows are rows: prompts of one token each are a decode step."""
    eager = StepTime(time.gpu, time.model, True, time.v1)
    kv_tokens = batch * context
    step = eager.step(batch, batch, kv_tokens, prompts=True)
    assert step == pytest.approx(eager.decode(batch, context))


def test_passes_of_8_rows_are_not_flat_and_25_rows_are_faster_than_24() -> None:
    time = StepTime(find_gpu("H200"), QWEN_7B_INT8, v1=True, kernel="exllama")
    steps = [time.decode(batch, 81) for batch in (1, 8, 9, 16, 17, 24, 32)]
    measured = [5.622, 9.793, 13.896, 14.203, 19.009, 19.405, 15.648]  # vLLM 0.26, ms
    assert [step * 1e3 for step in steps] == pytest.approx(measured, rel=0.08)


def test_a_batch_touches_part_of_a_mixture() -> None:
    mixture, dense = (
        StepTime(find_gpu("H100"), find_model(name)) for name in ("Qwen3-30B-A3B", "Qwen3-32B")
    )
    steps = [mixture.decode(batch, 0) for batch in (1, 8, 64, 512)]
    assert steps == sorted(steps)
    assert steps[0] < dense.decode(1, 0) / 3


@pytest.mark.parametrize("point", [*capacity_table.published()], ids=lambda point: point.what)
def test_published_speed_is_met_within_a_quarter_or_the_miss_explained(
    point: capacity_table.Point,
) -> None:
    assert (abs(point.error) > 0.25) is bool(point.why)


def test_the_stated_band_holds_for_nine_of_ten_figures() -> None:
    own, second = map(capacity_table.h200, (capacity_table.FIRST, capacity_table.SECOND))
    points = [*own, *second, *capacity_table.published(), *capacity_table.kv_tokens()]
    inside = [abs(point.error) <= point.band for point in points]
    assert sum(inside) >= 0.9 * len(inside)


def test_bands_say_what_was_measured() -> None:
    def time(gpu: str, model: str, eager: bool = False, v1: bool = True) -> StepTime:
        return StepTime(find_gpu(gpu), find_model(model), eager, v1)

    measured = time("A100-80", "Qwen2-7B-Instruct-GPTQ-Int8", v1=False)
    near = time("A10", "Qwen-7B-Chat-Int8")
    unknown = [time(gpu, "Qwen-7B-Chat-Int8", v1=False) for gpu in ("V100-16", "T4")]
    assert measured.measured
    assert not any(one.measured for one in (near, *unknown))
    assert measured.error < near.error < min(one.error for one in unknown)
    assert time("A100-80", "Qwen2-7B", eager=True).error > measured.error
    calibrated = replace(find_gpu("T4"), error=0.07)
    assert StepTime(calibrated, QWEN_7B_INT8, eager=True).error == 0.07


def test_old_paged_attention_reads_the_cache_for_every_query_head() -> None:
    for model, least in (("Qwen-7B-Chat", 1), ("Qwen2-7B", 4)):
        old, new = (StepTime(find_gpu("A100-80"), find_model(model), v1=v1) for v1 in (False, True))
        ratio = old.decode_line(1)[1] / new.decode_line(1)[1]
        assert least <= ratio < least + 1


def test_gpus_share_a_step_and_pay_for_the_link() -> None:
    def decode(gpu: str, gpus: int) -> float:
        return StepTime(find_gpu(gpu), find_model("Qwen2.5-72B").split(gpus)).decode(1, 0)

    assert decode("A100-80", 4) < decode("A100-80", 2) < decode("A100-80", 1)
    alone, together = decode("L20", 1), decode("L20", 8)
    assert together > alone / 8 + 80 * 2 * 40e-6  # two sums of each of 80 layers, over PCIe


def test_impossible_values_are_refused_by_name() -> None:
    time = StepTime(find_gpu("T4"), QWEN_7B_INT8)
    for call, name in (
        (lambda: time.decode(0, 0), "batch"),
        (lambda: time.decode(1, -1), "context_tokens"),
        (lambda: time.prefill(float("nan")), "tokens"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidValue) as caught:
            call()
        assert caught.value.name == name
