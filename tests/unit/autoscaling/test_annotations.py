"""Annotations and config-autoscaler: parsed as Knative parses them, refused by name."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.autoscaling.annotation_keys import ALIASES, HPA, KPA, PREFIX
from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.autoscaling.golang import parse_duration_ns, parse_float
from qwenkit.errors import InvalidValue


def spec(config: dict[str, str] | None = None, limit: int = 0, **keys: str) -> ScalingSpec:
    annotations = {PREFIX + key.replace("_", "-"): value for key, value in keys.items()}
    return parse_spec(annotations, container_concurrency=limit, config=config)


def outcome(annotations: dict[str, str]) -> ScalingSpec | InvalidValue:
    try:
        return parse_spec(annotations)
    except InvalidValue as error:
        return error


def test_defaults() -> None:
    assert spec() == ScalingSpec()
    assert (spec().target, spec().total) == (70.0, 100.0)


@pytest.mark.parametrize(
    ("limit", "keys", "expected"),
    [
        (12, {"target_utilization_percentage": "75"}, (9, 12)),
        (1, {"target": "10"}, (0.7, 1)),
        (0, {"target": "2"}, (1.4, 2)),
        (0, {"metric": "rps"}, (140, 200)),
        (1, {"metric": "rps", "target": "1"}, (0.7, 1)),
        (20, {"target": "0.01", "target_utilization_percentage": "1"}, (0.01, 0.01)),
    ],
)
def test_target_and_total(limit: int, keys: dict[str, str], expected: tuple[float, float]) -> None:
    got = spec(limit=limit, **keys)
    assert (got.target, got.total) == pytest.approx(expected)


def test_target_is_formed_in_binary() -> None:
    assert spec(target="3").target == 3 * 0.7 != 2.1


@pytest.mark.parametrize(
    ("window", "percent", "seconds"),
    [("10s", "10", 1), ("15s", "10", 2), ("60s", "51", 31), ("10m", "10", 60), ("6s", "1", 1)],
)
def test_panic_window_is_rounded_to_seconds(window: str, percent: str, seconds: int) -> None:
    assert spec(window=window, panic_window_percentage=percent).panic_window_s == seconds


@pytest.mark.parametrize("kebab", ALIASES)
def test_old_spelling_counts_and_kebab_wins(kebab: str) -> None:
    value, other = {
        "metric-aggregation-algorithm": ("weightedExponential", "linear"),
        "scale-down-delay": ("30s", "40s"),
        "scale-to-zero-pod-retention-period": ("30s", "40s"),
        "panic-threshold-percentage": ("300", "400"),
    }.get(kebab, ("3", "4"))
    old = parse_spec({PREFIX + ALIASES[kebab]: value})
    assert old == parse_spec({PREFIX + kebab: value}) != ScalingSpec()
    both = {PREFIX + ALIASES[kebab]: "nonsense", PREFIX + kebab: other}
    assert parse_spec(both) == parse_spec({PREFIX + kebab: other})


def test_single_spelling_keys_have_no_alias() -> None:
    assert parse_spec({PREFIX + "activationScale": "x"}) == ScalingSpec()


MALFORMED = {
    "target": ["", "x", "0", "0.009", "-1", "NaN", "nan", "Inf", "+Inf", "-inf", "1e400", " 2"],
    "target-utilization-percentage": ["0.9", "100.1", "NaN"],
    "panic-window-percentage": ["0", "101", "NaN", "10%"],
    "panic-threshold-percentage": ["109", "1001", "Infinity"],
    "target-burst-capacity": ["-2", "-0.5", "NaN", "all"],
    "window": ["60", "5s", "61m", "6.5s", "1h0m0.5s", "-60s", "NaN"],
    "scale-down-delay": ["-1s", "61m", "1.5s", "5"],
    "scale-to-zero-pod-retention-period": ["-1s", "2h", "never"],
    "min-scale": ["-1", "2.0", "2147483648", "one", ""],
    "max-scale": ["-1", "1e1"],
    "initial-scale": ["-1", "0", "1.5"],
    "activation-scale": ["1", "0", "-3", "2.5"],
    "metric": ["", "cpu", "Concurrency"],
    "class": ["vpa.autoscaling.knative.dev", "mine.knative.dev"],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k in MALFORMED for v in MALFORMED[k]])
def test_malformed_annotation_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_spec({PREFIX + key: value})
    assert (caught.value.name, caught.value.value) == (PREFIX + key, value)
    assert caught.value.rule
    if "nan" in value.lower() and key not in ("window",):
        assert "NaN" in caught.value.rule


def test_progress_deadline_is_read_and_checked() -> None:
    key = "serving.knative.dev/progress-deadline"
    assert parse_spec({key: "30m"}).progress_deadline_s == 1800
    for value in ("1.5s", "-1s", "600"):
        with pytest.raises(InvalidValue, match="progress-deadline"):
            parse_spec({key: value})


def test_algorithm_is_checked_only_for_an_explicit_kpa() -> None:
    assert spec(metric_aggregation_algorithm="median").algorithm == "linear"
    assert spec(metric_aggregation_algorithm="weightedExponential").algorithm.startswith("weighted")
    with pytest.raises(InvalidValue, match="algorithm"):
        parse_spec({PREFIX + "class": KPA, PREFIX + "metric-aggregation-algorithm": "median"})


def test_other_classes() -> None:
    assert parse_spec({PREFIX + "class": HPA}).metric == "cpu"
    assert parse_spec({PREFIX + "class": "my.example.com", PREFIX + "metric": "x"}).metric == "x"
    # Only the metric concurrency caps the target at the hard limit.
    for klass in (HPA, "my.example.com"):
        other = parse_spec(
            {PREFIX + "class": klass, PREFIX + "target": "9"}, container_concurrency=2
        )
        assert other.total == 9


@pytest.mark.parametrize(
    ("keys", "config"),
    [
        ({"min_scale": "3", "max_scale": "2"}, {}),
        ({"activation_scale": "3", "max_scale": "2"}, {}),
        ({"activation_scale": "2", "min_scale": "3"}, {}),
        ({"max_scale": "9"}, {"max-scale-limit": "8", "max-scale": "1"}),
        ({"max_scale": "0"}, {"max-scale-limit": "8", "max-scale": "1"}),
    ],
)
def test_contradictions_are_refused_unless_replayed(
    keys: dict[str, str], config: dict[str, str]
) -> None:
    with pytest.raises(InvalidValue):
        spec(config, **keys)
    annotations = {PREFIX + key.replace("_", "-"): value for key, value in keys.items()}
    parse_spec(annotations, config=config, strict=False)


def test_bounds_of_the_cluster_do_not_contradict_annotations() -> None:
    assert spec({"max-scale": "4"}, min_scale="5").min_scale == 5
    assert spec({"max-scale": "4"}, max_scale="0").max_scale == 0


def test_zero_initial_scale_needs_the_clusters_leave() -> None:
    assert spec({"allow-zero-initial-scale": "true"}, initial_scale="0").initial_scale == 0
    assert parse_spec({PREFIX + "initial-scale": "0"}, strict=False).initial_scale == 1


@pytest.mark.parametrize(
    ("text", "fraction"), [("70", 0.7), ("0.5", 0.5), ("1", 1.0), ("1.1", 0.011)]
)
def test_target_percentage_of_the_cluster(text: str, fraction: float) -> None:
    got = spec({"container-concurrency-target-percentage": text})
    assert got.utilization == pytest.approx(fraction)
    assert spec({"container-concurrency-target-percentage": text}, metric="rps").utilization == 0.7


def test_every_cluster_setting_arrives() -> None:
    got = spec(
        {
            "_example": "ignored",
            "pod-autoscaler-class": " kpa.autoscaling.knative.dev ",
            "enable-scale-to-zero": "F",
            "max-scale-up-rate": "1.5",
            "max-scale-down-rate": "3",
            "container-concurrency-target-default": "50",
            "requests-per-second-target-default": "10",
            "target-burst-capacity": "-1",
            "panic-window-percentage": "20",
            "panic-threshold-percentage": "150.0",
            "activator-capacity": "7",
            "initial-scale": "2",
            "min-scale": "1",
            "max-scale": "5",
            "max-scale-limit": "6",
            "stable-window": "2m",
            "scale-down-delay": "10s",
            "scale-to-zero-grace-period": "45s",
            "scale-to-zero-pod-retention-period": "1m30s",
        }
    )
    expected = ScalingSpec(
        target=35.0,
        total=50.0,
        enable_scale_to_zero=False,
        max_scale_up_rate=1.5,
        max_scale_down_rate=3.0,
        target_burst_capacity=-1.0,
        stable_window_s=120.0,
        panic_window_s=24.0,
        panic_threshold=1.5,
        activator_capacity=7.0,
        initial_scale=2,
        min_scale=1,
        max_scale=5,
        scale_down_delay_s=10.0,
        grace_period_s=45.0,
        retention_s=90.0,
    )
    assert got == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stable-window", "5s"),
        ("stable-window", "6.5s"),
        ("max-scale-up-rate", "1"),
        ("max-scale-down-rate", "NaN"),
        ("container-concurrency-target-percentage", "0"),
        ("container-concurrency-target-percentage", "101"),
        ("container-concurrency-target-default", "0.001"),
        ("requests-per-second-target-default", "0"),
        ("target-burst-capacity", "-3"),
        ("activator-capacity", "0.5"),
        ("panic-window-percentage", "0.5"),
        ("panic-threshold-percentage", "inf"),
        ("initial-scale", "0"),
        ("min-scale", "-1"),
        ("max-scale", "x"),
        ("max-scale-limit", "3"),
        ("scale-to-zero-grace-period", "0"),
        ("scale-down-delay", "0.5s"),
        ("enable-scale-to-zero", "yes"),
    ],
)
def test_malformed_cluster_setting_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(InvalidValue, match="config-autoscaler") as caught:
        parse_spec({}, config={key: value})
    assert caught.value.rule


def test_container_concurrency_and_types_are_checked() -> None:
    with pytest.raises(InvalidValue, match="containerConcurrency"):
        parse_spec({}, container_concurrency=-1)
    with pytest.raises(InvalidValue, match="target"):
        parse_spec({PREFIX + "target": 2})  # type: ignore[dict-item]
    with pytest.raises(InvalidValue, match="stable-window"):
        parse_spec({}, config={"stable-window": 60})  # type: ignore[dict-item]


@settings(deadline=None)
@given(st.text(max_size=12), st.sampled_from(sorted(MALFORMED)))
def test_no_text_gives_anything_but_a_finite_spec_or_a_typed_error(text: str, key: str) -> None:
    got = outcome({PREFIX + key: text})
    if isinstance(got, InvalidValue):
        assert got.name == PREFIX + key
        return
    numbers = [v for v in dataclasses.astuple(got) if isinstance(v, (int, float))]
    assert all(math.isfinite(number) for number in numbers)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1_0", 10.0), ("0x1p-2", 0.25), ("0x_1p0", 1.0), ("+.5", 0.5), ("1.", 1.0), ("1e1", 10.0)],
)
def test_go_floats(text: str, value: float) -> None:
    assert parse_float(text) == value


@pytest.mark.parametrize(
    "text", ["1__0", "_1", "1_", "1_.5", "0x1", "1e400", "0x1p5000", "0x_.8p1", "--1", "."]
)
def test_no_go_floats(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|large"):
        parse_float(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1m30s", 90 * 10**9),
        ("+.5s", 500_000_000),
        ("5.s1us", 5 * 10**9 + 1000),
        ("0.999999999999999999s", 10**9),  # the fraction is a double in between
        ("0.3333333333333333333h", 1200 * 10**9),
        (".12345678901234567890123s", 123_456_789),
        ("9223372036.854775807s", 2**63 - 1),
        ("-9223372036854775808ns", -(2**63)),
    ],
)
def test_go_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "+", "s", ".s", "1", "1 s", "1..5s", "1S", "1e3s", "9223372036854775808ns"]
)
def test_no_go_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration_ns(text)
