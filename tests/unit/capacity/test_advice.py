"""The lint of a spec: each rule fires where it must and is silent where it must be."""

from __future__ import annotations

from typing import Any

import pytest

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.autoscaling.kpa import Decider
from qwenkit.capacity.advice import ScalingContext, advise, panic_above

CALM = {
    "panic-threshold-percentage": "400",
    "target-burst-capacity": "0",
    "target": "5",
    "max-scale": "3",
}
ROOM = {"cold_start_s": 50.0, "gpus": 4, "kv_sequences": 13.0}


def levels(context: dict[str, Any], limit: int = 0, **keys: str) -> dict[str, str]:
    """Return the level of each rule that calm settings with these changes trigger."""
    settings = CALM | {key.replace("_", "-"): value for key, value in keys.items()}
    annotations = {PREFIX + key: value for key, value in settings.items() if value}
    spec = parse_spec(annotations, container_concurrency=limit)
    known = ScalingContext(**(ROOM | context))
    found = advise(spec, annotations=annotations, context=known)
    return {finding.rule: finding.level for finding in found}


def test_calm_settings_give_no_advice() -> None:
    assert levels({}) == {}
    assert levels({"timeout_s": 600, "response_start_timeout_s": 600}) == {}


@pytest.mark.parametrize(
    ("level", "rule", "keys", "context"),
    [
        ("advice", "hair-trigger-panic", {"panic_threshold_percentage": "200"}, {}),
        ("advice", "endless-panic", {"panic_threshold_percentage": "200"}, {}),
        ("advice", "target-boundary", {"target": "3"}, {}),
        ("advice", "always-proxy", {"target_burst_capacity": "211"}, {}),
        ("advice", "no-decay", {"target_burst_capacity": "-1"}, {}),
        ("warning", "metric-rps", {"metric": "rps"}, {}),
        ("warning", "other-class", {"class": "hpa.autoscaling.knative.dev"}, {}),
        ("warning", "initial-over-max", {"initial_scale": "4"}, {}),
        ("warning", "max-scale-unset", {"max_scale": "0"}, {"gpus": None}),
        ("warning", "beyond-gpus", {"max_scale": "4"}, {"gpus": 3}),
        ("warning", "no-spare-gpu", {}, {"gpus": 3}),
        ("error", "never-ready", {"min_scale": "3"}, {"gpus": 2}),
        ("warning", "window-too-short", {}, {"cold_start_s": 61.0}),
        ("error", "progress-deadline", {}, {"cold_start_s": 601.0}),
        ("advice", "progress-deadline", {}, {"cold_start_s": None}),
        ("error", "cold-start-timeout", {}, {"response_start_timeout_s": 49.0}),
        ("warning", "response-start", {}, {"timeout_s": 600.0}),
        ("warning", "beyond-kv-cache", {"target": "8"}, {"kv_sequences": 7.5}),
        ("warning", "annotation-unknown", {"maxscale": "3"}, {}),
        ("warning", "annotation-unknown", {"max-scale ": "3"}, {}),
        ("warning", "annotation-unknown", {"activationScale": "3"}, {}),
        ("warning", "algorithm-unknown", {"metric-aggregation-algorithm": "median"}, {}),
        ("warning", "idle-timeout", {}, {"timeout_s": 600.0, "idle_timeout_s": 60.0}),
        ("advice", "annotation-old", {"minScale": "1"}, {}),
        ("warning", "annotation-twice", {"minScale": "1", "min_scale": "1"}, {}),
    ],
)
def test_each_rule_has_one_level(
    level: str, rule: str, keys: dict[str, str], context: dict[str, Any]
) -> None:
    assert levels(context, **keys)[rule] == level


def test_a_known_cold_start_replaces_the_guess() -> None:
    assert "timeout-short" in levels({"timeout_s": 300, "cold_start_s": None})
    assert "timeout-short" not in levels({"timeout_s": 300})


def test_a_hard_limit_is_compared_with_target_and_cache() -> None:
    assert levels({}, limit=20)["limit-beyond-kv-cache"] == "advice"
    assert levels({}, limit=4)["target-over-limit"] == "warning"


def test_errors_come_first_and_a_typo_is_corrected() -> None:
    annotations = {PREFIX + "minScael": "1"}
    context = ScalingContext(cold_start_s=700, gpus=1)
    found = advise(parse_spec(annotations), annotations=annotations, context=context)
    order = [finding.level for finding in found]
    assert order == sorted(order, key=("error", "warning", "advice").index)
    typo = next(finding for finding in found if finding.rule == "annotation-unknown")
    assert typo.fix == f"did you mean {PREFIX}minScale?"


@pytest.mark.parametrize("ready", [1, 2, 3, 5])
@pytest.mark.parametrize("threshold", [1.1, 2.0, 2.5, 4.0])
def test_the_panic_load_is_the_deciders(ready: int, threshold: float) -> None:
    spec = ScalingSpec(target=5.0, panic_threshold=threshold)
    edge = panic_above(spec, ready)
    for load, panics in ((edge, False), (edge + 0.001, True)):
        decider = Decider(spec, ready=1, now=0.0)
        decider.record(0, load, 0.0)
        decision = decider.decide(0.5, ready)
        assert decision is not None
        assert decision.panicking is panics
