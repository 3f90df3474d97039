"""The recorded lifecycles under other names, in another namespace, with another image and pace.

What the controllers do must follow from the objects, and from nothing that the recordings share.
"""

from __future__ import annotations

import re
from typing import Any

import compare
import pytest
from controllers_world import Stage
from lifecycles import Play, by_kubelet, played, recording

NAMES = ("happy", "no-pvc", "no-gpu", "image-pull", "crash", "never-ready")
SERVICE, NAMESPACE = "summary-7b-v2", "team-b"
_WORDS = {
    r"\bqwen\b": SERVICE,
    r"(?<=\.)default\b|\bdefault(?=/)|(?<=_)default(?=\()": NAMESPACE,
    r"kube-ai-registry\.cn-shanghai\.cr\.aliyuncs\.com/kube-ai/vllm:0\.4\.1": "ghcr.io/a/b:9",
    r"registry\.invalid/kube-ai/vllm:9\.9": "registry.invalid/other/server:2",
}


def renamed(value: Any, key: str = "") -> Any:
    """Return recorded JSON as it would read for the other Service."""
    if isinstance(value, dict):
        return {name: renamed(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, key) for item in value]
    if key == "namespace" and value == "default":
        return NAMESPACE
    if isinstance(value, str):
        for pattern, word in _WORDS.items():
            value = re.sub(pattern, word, value)
    return value


def lines_of(name: str) -> list[compare.Line]:
    return [(moment, kind, renamed(what)) for moment, kind, what in recording(name)]


def play(name: str, *, ready_s: float) -> Play:
    lines = lines_of(name)
    stage = Stage(with_claim=False, ready_s=ready_s)
    stage.store.create("Namespace", {"metadata": {"name": NAMESPACE}})
    if name != "no-pvc":
        stage.add_claim(NAMESPACE)
    return Play(lines, stage, ignore=by_kubelet(lines))


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    return played({name: play(name, ready_s=4.0 + index) for index, name in enumerate(NAMES)})


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_lifecycle_is_repeated_under_other_names(
    found: dict[str, list[str]], name: str
) -> None:
    assert found[name] == []


def test_nothing_of_the_recorded_names_is_left() -> None:
    seen = compare.history(lines_of("happy"))
    assert {"qwen", "default"}.isdisjoint(name for _, name in seen.objects)
    hosts = seen.objects["Route", SERVICE].last["status"]["url"]
    assert hosts == f"http://{SERVICE}.{NAMESPACE}.example.com"
