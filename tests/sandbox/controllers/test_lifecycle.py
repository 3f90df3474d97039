"""The recorded lifecycles of a real cluster, acted out before our controllers.

A scripted kubelet stands for the node, so that only the control loops are judged: what a kubelet
writes into a running pod's status is left out of the comparison.
"""

from __future__ import annotations

import asyncio

import paced
import pytest
from controllers_world import SCALE, Stage
from lifecycles import Play, recording

from qwenkit.sandbox.kube.objects import condition

NAMES = ("happy", "no-pvc", "no-gpu", "image-pull", "crash", "never-ready", "zero-and-back")


AUTOSCALED = "zero-and-back"  # its decisions go by the second: it gets the loop to itself, slower


def play(name: str, *, scale: float = SCALE) -> Play:
    lines = recording(name)
    pods = (obj for _, _, obj in lines if obj.get("kind") == "Pod")
    ran = any(condition(pod, "PodScheduled").get("status") == "True" for pod in pods)
    return Play(lines, Stage(scale=scale), ignore=lambda line: ran and line.startswith("Pod/"))


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """Act the recordings out at once, each on a cluster of its own; the autoscaled one alone."""
    others = [name for name in NAMES if name != AUTOSCALED]

    async def all_of_them() -> list[list[str]]:
        at_once = await asyncio.gather(*(play(name).differences() for name in others))
        return [*at_once, await play(AUTOSCALED, scale=SCALE / 4).differences()]

    return dict(zip([*others, AUTOSCALED], paced.run(all_of_them()), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_lifecycle_is_repeated(found: dict[str, list[str]], name: str) -> None:
    assert found[name] == []
