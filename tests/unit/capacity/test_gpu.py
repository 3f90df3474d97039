"""GPU arithmetic against the reference tables, and what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.capacity.catalogue import QWEN_7B, QWEN_7B_INT8
from qwenkit.capacity.gpu import GIB, GPUS, band, bytes_per_step, prefill_seconds, tpot_seconds
from qwenkit.capacity.memory import batch_within, fit, flags, suggested_load
from qwenkit.errors import InvalidValue

NAMES = sorted(GPUS)
# Milliseconds per token at efficiency 0.5 and 0.6, for batches of 1, 4, 8, 16, 24, 32.
TPOT_MS = {
    "V100-16": [(20, 17), (24, 21), (29, 25), (53, 45), (78, 65), (115, 96)],
    "A10": [(29, 25), (35, 30), (43, 36), (79, 66), (115, 97), (171, 143)],
    "T4": [(53, 44), (65, 54), (78, 65), (146, 122), (215, 179), (320, 267)],
}


@pytest.mark.parametrize("name", TPOT_MS)
def test_decode_table(name: str) -> None:
    for batch, expected in zip((1, 4, 8, 16, 24, 32), TPOT_MS[name], strict=True):
        for efficiency, milliseconds in zip((0.5, 0.6), expected, strict=True):
            gpu = replace(GPUS[name], efficiency=efficiency)
            context = 512 if batch == 1 else 1024
            got = tpot_seconds(gpu, QWEN_7B_INT8, batch=batch, context_tokens=context)
            assert got * 1e3 == pytest.approx(milliseconds, abs=1.1)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("V100-16", 0.24, 0.40), ("A10", 0.22, 0.36), ("T4", 0.42, 0.69)]
)
def test_prefill_table(name: str, low: float, high: float) -> None:
    for mfu, expected in ((0.5, low), (0.3, high)):
        gpu = replace(GPUS[name], mfu=mfu)
        assert prefill_seconds(gpu, QWEN_7B_INT8, tokens=1024) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(
    ("name", "kv_gib", "tokens"),
    [
        ("T4", 4.1, 8_450),
        ("V100-16", 5.2, 10_600),
        ("A10", 11.1, 22_700),
        ("V100-32", 20.4, 41_700),
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


def test_flags_and_limits() -> None:
    assert "--dtype half" in flags("V100-16", QWEN_7B)  # bfloat16 needs 8.0
    assert "--dtype half" in flags("A10", QWEN_7B_INT8)  # GPTQ takes fp16 only
    assert "--dtype half" not in flags("A10", QWEN_7B)
    assert "--enforce-eager" in flags("V100-16", QWEN_7B_INT8)
    assert "--enforce-eager" not in flags("V100-32", QWEN_7B_INT8)


def test_suggested_load_and_its_bound() -> None:
    assert suggested_load("V100-16", QWEN_7B_INT8, live_tokens=800).total == 8
    assert suggested_load("T4", QWEN_7B_INT8, live_tokens=2048).bound == "KV cache"
    slow = suggested_load("T4", QWEN_7B_INT8, live_tokens=512, tpot_s=0.05)
    assert (slow.bound, slow.total) == ("TPOT objective", 2)
    assert suggested_load("A10", QWEN_7B, live_tokens=100).total > 8


def test_a_band_is_40_percent_wide_on_each_side() -> None:
    got = band("T4", 1.0)
    assert (got.low, got.value, got.high) == pytest.approx((0.6, 1.0, 1.4))


def test_unknown_names_and_impossible_values_are_refused_by_name() -> None:
    for call in (
        lambda: tpot_seconds("H900", QWEN_7B_INT8, batch=1),
        lambda: fit("", QWEN_7B_INT8),
        lambda: fit("T4", "GPT-9"),
        lambda: fit("T4", QWEN_7B_INT8, max_model_len=0),
        lambda: fit("T4", QWEN_7B_INT8, gpu_memory_utilization=1.2),
        lambda: tpot_seconds("T4", QWEN_7B_INT8, batch=0),
        lambda: tpot_seconds("T4", QWEN_7B_INT8, batch=1, context_tokens=-1),
        lambda: prefill_seconds("T4", QWEN_7B_INT8, tokens=float("nan")),
        lambda: suggested_load("T4", QWEN_7B_INT8, live_tokens=0),
        lambda: suggested_load("T4", QWEN_7B_INT8, live_tokens=20_000),
        lambda: suggested_load("T4", QWEN_7B, live_tokens=10),
        lambda: suggested_load("T4", QWEN_7B_INT8, live_tokens=100, tpot_s=0.001),
    ):
        with pytest.raises(InvalidValue) as caught:
            call()
        assert caught.value.name
        assert caught.value.rule


def test_the_cliff_past_24_and_the_steps_at_8() -> None:
    steps = [bytes_per_step(QWEN_7B_INT8, batch, 0) for batch in (8, 9, 16, 17, 24, 25)]
    assert steps[0] < steps[1] == steps[2] < steps[3] == steps[4] < steps[5]
    assert bytes_per_step(QWEN_7B, 1, 0) == bytes_per_step(QWEN_7B, 40, 0)


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.integers(1, 100), st.floats(0, 4000), st.floats(0, 4000))
def test_slower_with_batch_and_context(name: str, batch: int, context: float, more: float) -> None:
    base = tpot_seconds(name, QWEN_7B_INT8, batch=batch, context_tokens=context)
    assert tpot_seconds(name, QWEN_7B_INT8, batch=batch + 1, context_tokens=context) >= base
    assert tpot_seconds(name, QWEN_7B_INT8, batch=batch, context_tokens=context + more) >= base
    assert prefill_seconds(name, QWEN_7B_INT8, tokens=context + more) >= prefill_seconds(
        name, QWEN_7B_INT8, tokens=context
    )


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.floats(0.001, 0.5), st.floats(0, 2000))
def test_batch_within_is_the_largest_that_keeps_the_objective(
    name: str, tpot: float, context: float
) -> None:
    batch = batch_within(name, QWEN_7B_INT8, tpot_s=tpot, context_tokens=context)
    if batch:
        got = tpot_seconds(name, QWEN_7B_INT8, batch=batch, context_tokens=context)
        assert got <= tpot
    if batch < 24:
        more = tpot_seconds(name, QWEN_7B_INT8, batch=batch + 1, context_tokens=context)
        assert more > tpot
