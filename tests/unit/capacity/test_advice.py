"""The lint of a spec: each rule fires where it must and is silent where it must be."""

from __future__ import annotations

import pytest

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.autoscaling.kpa import Decider
from qwenkit.capacity.advice import Surroundings, advise, panic_above

CALM = {"panic-threshold-percentage": "400", "target-burst-capacity": "0", "target": "5"}


def rules(around: Surroundings | None = None, **keys: str) -> set[str]:
    settings = CALM | {key.replace("_", "-"): value for key, value in keys.items()}
    annotations = {PREFIX + key: value for key, value in settings.items()}
    spec = parse_spec(annotations)
    return {advice.rule for advice in advise(spec, annotations=annotations, surroundings=around)}


def test_calm_settings_give_no_advice() -> None:
    assert rules() == set()
    around = Surroundings(
        cold_start_s=50, gpus=4, kv_sequences=13, timeout_s=600, response_start_timeout_s=600
    )
    assert rules(around, max_scale="3") == {"endless-panic"}


@pytest.mark.parametrize(
    ("rule", "keys", "around"),
    [
        ("hair-trigger-panic", {"panic_threshold_percentage": "200"}, {}),
        ("endless-panic", {"max_scale": "3"}, {}),
        ("float-boundary", {"target": "2"}, {}),
        ("always-proxy", {"target_burst_capacity": "211", "max_scale": "3"}, {}),
        ("no-decay", {"target_burst_capacity": "-1"}, {}),
        ("rps-for-llm", {"metric": "rps"}, {}),
        ("other-class", {"class": "hpa.autoscaling.knative.dev"}, {}),
        ("initial-above-max", {"initial_scale": "4", "max_scale": "3"}, {}),
        ("no-max-scale", {}, {"gpus": 3}),
        ("beyond-gpus", {"max_scale": "4"}, {"gpus": 3}),
        ("no-spare-gpu", {"max_scale": "3"}, {"gpus": 3}),
        ("never-ready", {"min_scale": "4", "max_scale": "4"}, {"gpus": 3}),
        ("window-too-short", {}, {"cold_start_s": 61.0}),
        ("deadline-too-short", {}, {"cold_start_s": 601.0}),
        ("cold-start-timeout", {}, {"cold_start_s": 50.0, "response_start_timeout_s": 49.0}),
        ("beyond-kv-cache", {"target": "8"}, {"kv_sequences": 7.5}),
        ("unknown-key", {"maxscale": "3"}, {}),
        ("old-spelling", {"minScale": "1"}, {}),
        ("both-spellings", {"minScale": "1", "min_scale": "1"}, {}),
    ],
)
def test_each_rule_fires(rule: str, keys: dict[str, str], around: dict[str, float]) -> None:
    assert rule in rules(Surroundings(**around), **keys)


def test_errors_come_first_and_a_typo_is_corrected() -> None:
    annotations = {PREFIX + "minScael": "1"}
    found = advise(
        parse_spec(annotations),
        annotations=annotations,
        surroundings=Surroundings(cold_start_s=700, gpus=1),
    )
    assert [advice.level for advice in found] == sorted(
        (advice.level for advice in found), key=("error", "warning", "info").index
    )
    typo = next(advice for advice in found if advice.rule == "unknown-key")
    assert typo.fix.endswith("minScale")


def test_hard_limit_beyond_the_cache() -> None:
    spec = parse_spec({PREFIX + "target": "5"}, container_concurrency=20)
    found = advise(spec, surroundings=Surroundings(kv_sequences=13))
    assert "limit-beyond-kv-cache" in {advice.rule for advice in found}


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
