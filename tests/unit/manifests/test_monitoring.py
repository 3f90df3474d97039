"""The monitors find what Knative's pods really have, and the dashboard asks for what is there."""

from __future__ import annotations

import json
import re
import sys
from itertools import pairwise
from typing import Any

import pytest
from lifecycles import recording
from ruamel.yaml import YAML

from qwenkit.cli.main import main
from qwenkit.manifests.lint import lint
from qwenkit.manifests.monitoring import monitoring
from qwenkit.manifests.template import plain, to_yaml
from qwenkit.sandbox.engine.metrics import Metrics
from qwenkit.settings import Settings

SETTINGS = Settings(service="llm", namespace="prod", run="mine")


def documents() -> list[dict[str, Any]]:
    text = to_yaml(monitoring(SETTINGS))
    return list(YAML(typ="safe").load_all(text))


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(documents()[2]["data"]["llm.json"])
    return found


def queries() -> list[str]:
    panels = dashboard()["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_they_are_yaml_of_ours_that_lint_takes() -> None:
    made = documents()
    assert [(each["kind"], each["metadata"]["name"]) for each in made] == [
        ("PodMonitor", "llm"),
        ("PodMonitor", "llm-autoscaler"),
        ("ConfigMap", "llm-dashboard"),
    ]
    for each in made:
        assert each["metadata"]["namespace"] == "prod"
        assert SETTINGS.labels.items() <= each["metadata"]["labels"].items()
    assert made[2]["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert lint(made) == []
    assert made == [plain(each) for each in monitoring(SETTINGS)]
    text = to_yaml(monitoring(SETTINGS))
    for words in ("one pod at random", "no target", "Prometheus operator", "9090", "9091"):
        assert words in text, words


def test_the_command_prints_them_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["qwenkit", "render", "--monitoring", "--set", "service=llm"]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 0
    assert capsys.readouterr().out == to_yaml(monitoring(Settings.load(service="llm")))
    monkeypatch.setattr(sys, "argv", [*words, "--as-documented"])
    assert main() == 2
    assert "cannot be given with --as-documented" in capsys.readouterr().err


def test_the_pod_monitor_finds_the_pods_and_ports_that_knative_makes() -> None:
    pod = next(what for _, _, what in recording("happy") if what.get("kind") == "Pod")
    spec = monitoring(Settings())[0]["spec"]
    assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert set(spec["podTargetLabels"]) <= pod["metadata"]["labels"].keys()
    ports = {port["name"] for each in pod["spec"]["containers"] for port in each.get("ports", ())}
    assert {each["port"] for each in spec["podMetricsEndpoints"]} <= ports


def test_each_query_reads_the_old_names_or_the_new() -> None:
    asked = {name for query in queries() for name in re.findall(r"vllm:\w+", query)}
    old = Metrics("qwen", 6144).exposition().decode()
    there = {name for name in asked if f"\n{name}" in old}
    assert asked - there == {"vllm:kv_cache_usage_perc", "vllm:inter_token_latency_seconds_bucket"}
    for query in queries():
        assert query.count("(") == query.count(")")
        assert ("autoscaler_" in query) == ("kn_revision_" in query)
        for newer in asked - there:
            assert newer not in query or " or " in query


def test_the_panels_lie_beside_each_other_and_know_the_service() -> None:
    found = dashboard()
    chosen = {each["name"]: each["query"] for each in found["templating"]["list"]}
    assert (chosen["namespace"], chosen["service"]) == ("prod", "llm")
    places = sorted(
        (p["gridPos"]["y"], p["gridPos"]["x"], p["gridPos"]["w"]) for p in found["panels"]
    )
    for (y, x, wide), (below, beside, _) in pairwise(places):
        assert below > y or beside == x + wide
    assert max(x + wide for _, x, wide in places) == 24
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
