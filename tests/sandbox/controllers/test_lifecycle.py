"""The recorded lifecycles of a real cluster, acted out before our controllers.

A scripted kubelet stands for the node, so that only the control loops are judged: what a kubelet
writes into a running pod's status is left out of the comparison.
"""

from __future__ import annotations

import pytest
from controllers_world import SCALE, Stage
from lifecycles import Play, by_kubelet, played, recording

NAMES = (
    "happy",
    "no-pvc",
    "no-gpu",
    "image-pull",
    "crash",
    "never-ready",
    "image-twice",
    "zero-and-back",
)


AUTOSCALED = "zero-and-back"  # its decisions go by the second: it gets the loop to itself, slower


def play(name: str, *, scale: float = SCALE) -> Play:
    lines = recording(name)
    return Play(lines, Stage(scale=scale), ignore=by_kubelet(lines))


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """Act the recordings out at once, each on a cluster of its own; the autoscaled one alone."""
    others = {name: play(name) for name in NAMES if name != AUTOSCALED}
    return played(others) | played({AUTOSCALED: play(AUTOSCALED, scale=SCALE / 4)})


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_lifecycle_is_repeated(found: dict[str, list[str]], name: str) -> None:
    assert found[name] == []
