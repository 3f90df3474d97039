"""A card's speed, fitted to measured points: what it predicts, and which error it states."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.capacity.calibration.card import Card
from qwenkit.capacity.calibration.closed_loop import run_closed_loop
from qwenkit.capacity.calibration.errors import calibrate, mean_errors, predict
from qwenkit.capacity.calibration.fit import fit_speed
from qwenkit.capacity.calibration.points import (
    ClosedPoint,
    DecodePoint,
    Measurements,
    Point,
    PrefillPoint,
    Run,
)
from qwenkit.capacity.catalogue import find_model
from qwenkit.capacity.file_fields import FileFields
from qwenkit.capacity.gpu import Speed
from qwenkit.capacity.judge import judge, main
from qwenkit.capacity.step_time import StepTime
from qwenkit.errors import InvalidValue, QwenkitError

FILE = Path(__file__).parents[2] / "data/gpu/h200-vllm-0.26.json"
SECOND = FILE.with_name("h200-vllm-0.26-second-machine.json")
MOST = {"decode": 6, "prefill": 10, "e2e": 8, "throughput": 8, "ttft": 18, "kv": 3}  # percent
RAW: dict[str, Any] = json.loads(FILE.read_text())
H200 = Measurements.read(FILE)
STEP = {"batch": 1, "context_tokens": 9, "tpot_s": 0.1}
CLOSED = {"clients": 1, "prompt_tokens": 9, "answer_tokens": 9}


def changed(of: Callable[[Run, Point], Point | None]) -> Measurements:
    """Return the measurements with other points, or without some."""
    runs = []
    for run in H200.runs:
        points = (of(run, point) for point in run.points)
        runs.append(replace(run, points=tuple(point for point in points if point)))
    return replace(H200, runs=tuple(runs))


def keep(which: Callable[[Run, Point], bool]) -> Measurements:
    return changed(lambda run, point: point if which(run, point) else None)


def read(values: Any) -> Measurements:
    return Measurements.of(FileFields(values, "file"))


@pytest.fixture(scope="module")
def left_out() -> dict[str, Any]:
    return judge(H200, H200)


def test_points_that_were_left_out_are_predicted(left_out: dict[str, Any]) -> None:
    assert all(left_out[f"{metric}_mape"] <= percent for metric, percent in MOST.items())
    assert left_out["inside_band"] >= 90
    assert set(left_out["worst"]) == {"metric", "run", "point", "error"}


@pytest.mark.parametrize("fit", [H200, None], ids=["calibrated", "datasheet"])
def test_another_machine_that_nothing_was_fitted_to_is_predicted(fit: Measurements | None) -> None:
    found = judge(fit, Measurements.read(SECOND))
    assert all(found[f"{metric}_mape"] <= percent for metric, percent in MOST.items())
    assert found["inside_band"] >= 90


def test_the_datasheet_alone_predicts_within_the_stated_band() -> None:
    found = judge(None, H200)
    assert max(found["decode_mape"], found["e2e_mape"]) <= 20
    assert found["kv_mape"] <= 8
    assert found["inside_band"] >= 90


@pytest.mark.parametrize(
    "known",
    [
        lambda run, point: run.name == "fp16",
        lambda run, point: run.name == "int8",
        lambda run, point: not isinstance(point, DecodePoint) or point.context_tokens > 500,
        lambda run, point: not isinstance(point, DecodePoint) or point.batch <= 16,
        lambda run, point: not isinstance(point, DecodePoint) or point.batch % 2 == 0,
        lambda run, point: not isinstance(point, ClosedPoint),
        lambda run, point: not isinstance(point, PrefillPoint),
        lambda run, point: isinstance(point, ClosedPoint),
    ],
    ids=["fp16", "int8", "long", "<=16", "even", "no loops", "no prompts", "loops"],
)
def test_a_part_of_the_points_predicts_the_rest(known: Callable[[Run, Point], bool]) -> None:
    speed = fit_speed(keep(known)).speed
    found = mean_errors(predict(keep(lambda run, point: not known(run, point)).at(speed)))
    for metric, most in (("decode", 0.06), ("prefill", 0.1), ("e2e", 0.08), ("ttft", 0.18)):
        assert (found[metric] or 0) <= most


def test_the_speed_of_another_card_is_found_again() -> None:
    true = Speed(1.2, 0.8, 0.5, 3e-3, 60e-6, 0.9e-3)

    def of(run: Run, point: Point) -> Point | None:
        time = H200.at(true).time(run)
        if isinstance(point, DecodePoint):
            return replace(point, tpot_s=time.decode(point.batch, point.context_tokens))
        if isinstance(point, PrefillPoint):
            return replace(point, seconds=time.prefill(point.tokens))
        return None

    known = changed(of)
    speed = fit_speed(known).speed
    assert max(abs(each.error) for each in predict(known.at(speed)) if each.metric != "kv") < 0.05
    assert speed.compute == pytest.approx(true.compute, rel=0.03)


def test_one_wrong_point_moves_little_and_nothing_runs_away() -> None:
    def spoilt(factor: float, which: Callable[[Point], bool]) -> Measurements:
        def of(_: Run, point: Point) -> Point:
            if isinstance(point, DecodePoint) and which(point):
                return replace(point, tpot_s=point.tpot_s * factor)
            return point

        return changed(of)

    good, wrong = fit_speed(H200).speed, DecodePoint(1, 1041, 0.006391)
    bad = fit_speed(spoilt(5, lambda point: point == wrong)).speed
    times = [H200.at(speed).time(H200.runs[0]).decode(16, 512) for speed in (good, bad)]
    assert times[1] == pytest.approx(times[0], rel=0.05)
    absurd = fit_speed(spoilt(1000, lambda point: True)).speed
    assert absurd.linear < 2
    assert absurd.step_s < 0.01


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_few_points_give_a_wide_band(count: int) -> None:
    run = H200.runs[0]
    few = replace(H200, runs=(replace(run, points=run.points[:count]),))
    found = calibrate(few)
    assert found.points == count
    assert (found.gpu.error or 0) > H200.time(run).error
    assert (found.gpu.speed == Speed()) is (count == 0)


def test_what_was_never_seen_keeps_the_band_wide(left_out: dict[str, Any]) -> None:
    decode_only = keep(lambda run, point: isinstance(point, DecodePoint))
    assert (calibrate(decode_only).gpu.error or 0) > 0.25 > left_out["band"] / 100


def test_runs_without_graphs_count_for_the_kv_cache_alone() -> None:
    without = replace(H200, runs=tuple(run for run in H200.runs if not run.eager))
    assert fit_speed(without) == fit_speed(H200)
    eager = replace(H200, runs=tuple(run for run in H200.runs if run.eager))
    assert {each.metric for each in predict(eager)} == {"kv"}


def test_one_client_waits_for_its_prompt_and_its_tokens() -> None:
    run = H200.runs[0]
    time, point = H200.time(run), ClosedPoint(1, 512, 128, 5.0)
    found = run_closed_loop(time, run, point, 10_000)
    assert found.ttft_p50_s == pytest.approx(time.prefill(512))
    answer = sum(time.decode(1, 512 + made) for made in range(1, 128))
    assert found.latency_mean_s == pytest.approx(time.prefill(512) + answer)
    assert found.tokens_per_s == pytest.approx(128 / (time.prefill(512) + answer), rel=0.05)


def test_a_loop_in_which_nothing_ends_has_no_figures() -> None:
    run, point = H200.runs[0], ClosedPoint(4, 512, 4000, 1.0)
    found = run_closed_loop(H200.time(run), run, point, None)
    assert found.latency_mean_s is found.ttft_p50_s is None
    assert found.tokens_per_s
    long = replace(point, prompt_tokens=7000)  # no step has room for it
    assert run_closed_loop(H200.time(run), run, long, None) == long


def test_any_part_of_a_file_may_be_missing() -> None:
    card, model = RAW["card"], RAW["model"]
    untold: list[Any] = [{}, {"card": {}}, {"runs": RAW["runs"]}, {**RAW, "card": None}]
    for nothing in untold:
        assert read(nothing).runs == ()
    null: dict[str, Any] = {"decode": [{}, STEP | {"tpot_s": None}], "closed": [{"clients": 1}]}
    parts: list[Any] = [
        {},
        None,
        {"a": null},
        {"a": {}},
        {"a": {"decode": None, "prefill_s": {}, "closed": []}},
    ]
    for runs in parts:
        empty = read({"card": card, "model": model, "runs": runs, "new": 1})
        found = judge(empty, empty)
        assert found.pop("band") > 25
        assert set(found.values()) == {None}
    figures = {**card, "name": "no name that is known", "compute_capability": "9.0"}
    assert read({"card": figures, "model": model}).gpu.compute_capability == 9
    named = {"card": {"name": "A10"}, "model": {"shape": "Qwen-7B-Chat-Int8"}}
    (run,) = read({**named, "engine": "vLLM 0.4.1", "runs": {"a": {}}}).runs
    assert H200.time(run).kernel == "marlin"


@pytest.mark.parametrize(
    ("weights", "method", "kernel"),
    [
        ("fp16", "", "fp16"),
        ("unheard of", "", "fp16"),  # as the model is
        ("gptq int8, group 128, exllama kernel", "gptq", "exllama"),
        ("gptq int8", "gptq", "exllama"),  # the file's engine says so
        ("gptq int4, marlin", "gptq", "marlin"),
        ("W4A16 by machete", "gptq", "marlin"),
        ("awq", "awq", "marlin"),
        ("fp8", "fp8", "fp8"),
    ],
)
def test_a_run_is_known_by_its_fields(weights: str, method: str, kernel: str) -> None:
    for unknown in (None, "", "UnquantizedLinearMethod"):
        found = read({**RAW, "runs": {"any name": {"weights": weights, "kernel": unknown}}})
        assert found.runs[0].model.quantization == method
        assert found.time(found.runs[0]).kernel == kernel


@pytest.mark.parametrize(
    ("stored", "kernel", "runs"),
    [
        ("gptq int8", "ExllamaLinearKernel", "exllama"),
        ("gptq int8, exllama", "MarlinLinearKernel", "marlin"),
        ("awq", "awq", "awq"),
        ("awq", "exllama", "marlin"),  # which cannot run it
        ("fp16", "exllama", "fp16"),
    ],
)
def test_a_kernel_runs_what_it_can(stored: str, kernel: str, runs: str) -> None:
    found = read({**RAW, "engine": "", "runs": {"a": {"weights": stored, "kernel": kernel}}})
    assert found.time(found.runs[0]).kernel == runs


def test_the_times_tell_which_kernel_ran() -> None:
    wrong = {**RAW["runs"]["int8"], "kernel": "marlin"}
    found = calibrate(read({**RAW, "runs": {"int8": wrong}}))
    assert found.gpu.kernels == (("gptq", "exllama"),)
    assert found.errors == calibrate(read({**RAW, "runs": {"int8": RAW["runs"]["int8"]}})).errors
    assert calibrate(H200).gpu.kernels == (("gptq", "exllama"),)  # the file says so
    few = {**wrong, "decode": wrong["decode"][:1], "prefill_s": {}, "closed": []}
    assert calibrate(read({**RAW, "engine": "", "runs": {"int8": few}})).gpu.kernels == ()
    run = H200.runs[0]
    at_will = StepTime(found.gpu, find_model("Qwen-7B-Chat-Int8"))
    assert at_will.kernel == "exllama"
    assert StepTime(found.gpu, run.model).kernel == "fp16"


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"runs": []}, "runs"),
        ({"runs": {"a": {"decode": 5}}}, "runs: a: decode"),
        ({"runs": {"a": {"decode": [STEP | {"batch": 0}]}}}, "decode[0]: batch"),
        ({"runs": {"a": {"decode": [STEP | {"tpot_s": "1"}]}}}, "decode[0]: tpot_s"),
        ({"runs": {"a": {"prefill_s": {"many": 1}}}}, "prefill_s: many"),
        ({"runs": {"a": {"prefill_s": {"128": float("nan")}}}}, "prefill_s: 128"),
        ({"runs": {"a": {"closed": [CLOSED | {"clients": 1.5}]}}}, "closed[0]: clients"),
        ({"runs": {"a": {"closed": [CLOSED | {"seconds": -1}]}}}, "closed[0]: seconds"),
        ({"runs": {"a": {"weights": 8}}}, "runs: a: weights"),
        ({"runs": {"a": {"eager": "no"}}}, "runs: a: eager"),
        ({"runs": {"a": {"room_gib": -1}}}, "runs: a: room_gib"),
        ({"model": {"shape": "unheard of"}}, "num_hidden_layers"),
        ({"card": {"name": "unheard of"}}, "card: usable_gib"),
    ],
)
def test_a_wrong_field_is_named(part: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read({**RAW, **part})
    assert caught.value.name.endswith(field)
    assert caught.value.fix


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container inside a file's content with a key of it."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


ODD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, {}, [], "", 0, -1, True, [None], [{}], {"a": None}, 10**30, 257]),
    st.floats(),
    st.sampled_from(
        ["Marlin", "fp8", "int4 group 0", "9.0", "x" * 1000, "UnquantizedLinearMethod"]
    ),
)


@given(st.data())
@settings(max_examples=60)
def test_any_file_is_judged_or_its_wrong_field_named(data: st.DataObject) -> None:
    raw = json.loads(json.dumps({name: RAW[name] for name in ("card", "engine", "model", "runs")}))
    for run in raw["runs"].values():
        run["decode"], run["closed"] = run["decode"][:2], run["closed"][:1]
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from([*places(raw)]))
        container[key] = data.draw(ODD)
    try:
        file = read(raw)
    except QwenkitError:
        return
    for fit in (H200, file, None):
        found = judge(fit and replace(fit, runs=fit.runs[:1]), file)
        json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    "loop",
    [
        {"prompt_tokens": 7000},  # no step has room for it
        {"clients": 10**8},
        {"clients": 5000, "seconds": 3600, "prompt_tokens": 1, "answer_tokens": 1},
        {"seconds": 0},
        {"answer_tokens": 10**8},
        {"clients": 300, "ttft_p50_s": 0, "latency_mean_s": None},
    ],
)
def test_a_strange_loop_is_judged_soon(loop: dict[str, Any]) -> None:
    closed = {**RAW["runs"]["fp16"]["closed"][0], **loop}
    file = read({**RAW, "runs": {"a": {"weights": "fp16", "closed": [closed] * 20}}})
    assert set(judge(None, file)) == set(judge(None, H200))


def test_many_points_are_judged_soon() -> None:
    run = H200.runs[0]
    many = replace(H200, runs=(replace(run, points=run.points * 60),))
    assert calibrate(many).errors["decode"] == pytest.approx(0.025, abs=0.02)


def test_a_card_is_kept_in_a_file(tmp_path: Path, left_out: dict[str, Any]) -> None:
    made = Card.of("mine", RAW, "2026-11-27")
    path = made.write(tmp_path / "cards")
    assert Card.read(path) == made
    assert Measurements.read(path) == H200  # so that it can be fitted anew
    assert made.gpu.name == "card:mine"
    assert made.gpu.error == pytest.approx(left_out["band"] / 100, abs=1e-4)
    assert [each.name for each in path.parent.iterdir()] == ["mine.json"]
    damaged = json.loads(path.read_text())
    for field in ("name", "speed", "error", "points"):
        path.write_text(json.dumps({**damaged, field: None}))
        with pytest.raises(InvalidValue, match=field if field != "speed" else "linear"):
            Card.read(path)
    with pytest.raises(InvalidValue, match="linear"):
        Card.read(FILE)


def test_the_command_prints_json_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, left_out: dict[str, Any]
) -> None:
    assert main(["--fit", str(FILE), "--on", str(FILE)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == left_out
    assert main(["--on", str(FILE)]) == 0
    assert json.loads(capsys.readouterr().out)["band"] == 25
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps({"runs": RAW["runs"], "card": None}))
    assert main(["--fit", str(FILE), "--on", str(bare)]) == 0  # the same card, model and engine
    assert json.loads(capsys.readouterr().out) == left_out
    (tmp_path / "broken.json").write_text("{")
    for wrong in ("broken.json", "missing.json"):
        assert main(["--fit", str(FILE), "--on", str(tmp_path / wrong)]) == 2
        assert wrong in capsys.readouterr().err
