"""Act a recorded lifecycle out on a stage, step by step, and say what differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import compare
import paced
from controllers_world import Stage
from places import DATA

from qwenkit.sandbox.kube.objects import Object, condition, copied
from qwenkit.sandbox.kube.writes.patches import merge_patch

_RECORDINGS = DATA / "cluster"


def recording(name: str) -> list[compare.Line]:
    """Return the lines of a recorded lifecycle."""
    return compare.read(_RECORDINGS / f"lifecycle-{name}.jsonl.gz")


class Play:
    """One recording, acted out on a stage step by step.

    Each step waits for the recorded state before it, not for the recorded second: a busy machine
    is slow, but does the same.
    """

    def __init__(
        self,
        recording: list[compare.Line],
        stage: Stage,
        *,
        ignore: Callable[[str], bool] = lambda line: False,
    ) -> None:
        self._recording, self._stage, self._ignore = recording, stage, ignore
        services = (obj for _, kind, obj in recording if kind == "ADDED" and _is_ksvc(obj))
        self._service = copied(next(services))

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
        return self._judged(compare.history(self._recording))

    def _steps(self) -> list[tuple[float, str, Object]]:
        steps = []
        for moment, kind, what in self._recording:
            if kind == "ACTION" and what["verb"] == "request":
                steps += [(moment - what["seconds"], "enter", what), (moment, "leave", what)]
            elif kind == "ACTION":
                steps.append((moment, what["verb"], what))
        return steps

    async def _arrived(self, moment: float) -> None:
        """Wait for the recorded state before a moment; if it does not come, the end differs."""
        lines = [line for line in self._recording if line[0] < moment]
        before = compare.history(lines)
        before.gone.clear()
        for _ in range(300):
            same = not [line for line in self._judged(before) if "gone" not in line]
            if same and _pods(self._stage.lines) == _pods(lines):
                return
            await asyncio.sleep(0.1)

    def _judged(self, recorded: compare.History) -> list[str]:
        found = compare.differences(recorded, compare.history(self._stage.lines))
        return [line for line in found if not self._ignore(line)]

    def _do(self, verb: str, what: Object) -> None:
        stage, metadata = self._stage, self._service["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        stage.lines.append((stage.clock.now(), "ACTION", {"verb": verb}))
        if verb == "create":
            stage.store.create("KnativeService", {**self._service, "status": None})
        elif verb == "patch":
            found = stage.store.get("KnativeService", namespace, name)
            stage.store.update("KnativeService", merge_patch(found, what["object"]))
        elif verb == "delete":
            stage.store.delete("KnativeService", namespace, name)
        elif verb == "enter":
            stage.request(namespace, name)
        else:
            stage.answered()


def played(plays: Mapping[str, Play]) -> dict[str, list[str]]:
    """Act recordings out at once; return what differs in each."""

    async def whole() -> list[list[str]]:
        return await asyncio.gather(*(play.differences() for play in plays.values()))

    return dict(zip(plays, paced.run(whole()), strict=True))


def by_kubelet(lines: list[compare.Line]) -> Callable[[str], bool]:
    """Return a filter for what a node's kubelet writes, if pods ran in a recording."""
    pods = (obj for _, _, obj in lines if obj.get("kind") == "Pod")
    ran = any(condition(pod, "PodScheduled").get("status") == "True" for pod in pods)
    return lambda line: ran and line.startswith("Pod/")


def _pods(lines: list[compare.Line]) -> int:
    """Return how many of the pods that came have not gone: one that leaves still reports."""
    names = {
        kind: {o["metadata"]["name"] for _, k, o in lines if (k, o.get("kind")) == (kind, "Pod")}
        for kind in ("ADDED", "DELETED")
    }
    return len(names["ADDED"] - names["DELETED"])


def _is_ksvc(obj: Object) -> bool:
    return obj.get("kind") == "Service" and "serving" in obj.get("apiVersion", "")
