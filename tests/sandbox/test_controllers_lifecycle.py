"""The recorded lifecycles of a real cluster, acted out before our controllers.

A scripted kubelet stands for the node, so that only the control loops are judged: what a kubelet
writes into a running pod's status is left out of the comparison.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from controllers_world import Stage

from qwenkit.sandbox import compare
from qwenkit.sandbox.kube.objects import Object, condition, copied

RECORDINGS = Path(__file__).parent.parent / "data" / "cluster"
NAMES = ("happy", "no-pvc", "no-gpu", "image-pull", "crash", "never-ready", "zero-and-back")


class Play:
    """One recording, acted out on a stage step by step.

    Each step waits until the stage has come to where the recording was before that step, and not
    for the recorded second: a busy machine is slow, but tells the same story.
    """

    def __init__(self, recording: list[compare.Line]) -> None:
        self._recording, self._stage = recording, Stage()
        services = (obj for _, kind, obj in recording if kind == "ADDED" and _is_ksvc(obj))
        self._service = copied(next(services))
        pods = (obj for _, _, obj in recording if obj.get("kind") == "Pod")
        self._ran = any(condition(pod, "PodScheduled").get("status") == "True" for pod in pods)

    async def differences(self) -> list[str]:
        """Do everything that was done and return what differs in the end."""
        stage = self._stage
        async with stage.running():
            for moment, verb, what in self._steps():
                if verb != "create":
                    await self._arrived(moment)
                self._do(verb, what)
            kinds = ("Configuration", "Revision", "Route", "Ingress", "ServerlessService", "Pod")
            await stage.eventually(lambda: not any(stage.store.list(kind) for kind in kinds))
        return self._judged(compare.account(self._recording))

    def _steps(self) -> list[tuple[float, str, Object]]:
        steps = []
        for moment, kind, what in self._recording:
            if kind == "ACTION" and what["verb"] == "request":
                steps += [(moment - what["seconds"], "enter", what), (moment, "leave", what)]
            elif kind == "ACTION":
                steps.append((moment, what["verb"], what))
        return steps

    async def _arrived(self, moment: float) -> None:
        """Wait for the recorded state before a moment; in vain, the end will tell what differs."""
        before = compare.account(line for line in self._recording if line[0] < moment)
        before.gone.clear()
        for _ in range(300):
            if not [line for line in self._judged(before) if "gone" not in line]:
                return
            await asyncio.sleep(0.1)

    def _judged(self, recorded: compare.Account) -> list[str]:
        found = compare.differences(recorded, compare.account(self._stage.lines))
        return [line for line in found if not (self._ran and line.startswith("Pod/"))]

    def _do(self, verb: str, what: Object) -> None:
        stage = self._stage
        stage.lines.append((stage.clock.now(), "ACTION", {"verb": verb}))
        if verb == "create":
            stage.store.create("KnativeService", {**self._service, "status": None})
        elif verb == "patch":
            found = stage.store.get("KnativeService", "default", "qwen")
            patch = what["object"]["spec"]["template"]["metadata"]["annotations"]
            found["spec"]["template"]["metadata"]["annotations"] |= patch
            stage.store.update("KnativeService", found)
        elif verb == "delete":
            stage.store.delete("KnativeService", "default", "qwen")
        elif verb == "enter":
            stage.traffic.enter("default", "qwen-00001")
        else:
            stage.traffic.leave("default", "qwen-00001")


def _is_ksvc(obj: Object) -> bool:
    return obj.get("kind") == "Service" and "serving" in obj.get("apiVersion", "")


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """Act all recordings out at once; each has a cluster of its own."""

    recordings = [list(compare.read(RECORDINGS / f"lifecycle-{n}.jsonl.gz")) for n in NAMES]

    async def all_of_them() -> list[list[str]]:
        return await asyncio.gather(*(Play(each).differences() for each in recordings))

    return dict(zip(NAMES, asyncio.run(all_of_them()), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_lifecycle_is_repeated(found: dict[str, list[str]], name: str) -> None:
    assert found[name] == []
