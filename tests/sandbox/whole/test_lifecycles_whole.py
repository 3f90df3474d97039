"""The recorded lifecycles of a real cluster, acted out before all of the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import paced
import pytest
from lifecycles import Play, recording
from node_world import lake
from whole_world import WholeStage, weights

NAMES = ("happy", "no-pvc", "no-gpu", "image-pull", "crash", "never-ready", "zero-and-back")


class AskedStage(WholeStage):
    """A stage whose recorded requests are sent to its gateway."""

    def __init__(self, oss: str) -> None:
        super().__init__(oss, scale=10.0, load_s=7)
        self._asking: list[asyncio.Task[int]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with super().running():
            yield
            assert await asyncio.gather(*self._asking) == [200] * len(self._asking)

    def request(self, namespace: str, service: str) -> None:
        host = f"{service}.{namespace}.example.com"
        self._asking.append(asyncio.create_task(self._ask(host)))

    def answered(self) -> None:
        """The answer comes by itself."""

    async def _ask(self, host: str) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.gateway_url}/v1/chat/completions", json=lake(), headers={"Host": host}
            ) as response,
        ):
            await response.read()
            return response.status


def of_the_lab(line: str) -> bool:
    """Return whether a difference is only that the recorded vLLM was a silent stand-in."""
    return ".terminated.message added" in line and "vLLM API server" in line


async def differences(root: Path) -> list[list[str]]:
    """Act all recordings out at once; each has a cluster of its own."""
    async with weights(root) as oss:
        plays = [Play(recording(name), AskedStage(oss), ignore=of_the_lab) for name in NAMES]
        return await asyncio.gather(*(play.differences() for play in plays))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    results = paced.run(differences(tmp_path_factory.mktemp("oss")))
    return dict(zip(NAMES, results, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_sandbox_repeats_a_recorded_lifecycle(
    found: dict[str, list[str]], name: str
) -> None:
    assert found[name] == []
