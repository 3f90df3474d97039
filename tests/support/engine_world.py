"""The sandbox's vLLM with the sandbox's own model, without a node around it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import paced
from node_world import client, model_files
from prometheus_client.parser import text_string_to_metric_families

from qwenkit.sandbox.engine import checkpoint, flags, hardware, newer_flags
from qwenkit.sandbox.engine.checkpoint import LoadedModel
from qwenkit.sandbox.engine.releases import PAGE, Release
from qwenkit.sandbox.engine.server import EngineServer
from qwenkit.sandbox.http import listen

ARGS = ("--model", "/m", "--served-model-name", "qwen", "--max-model-len", "128")
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


@cache
def model() -> LoadedModel:
    return checkpoint.load(model_files(), "/m")


@asynccontextmanager
async def engine(
    *more: str, time_scale: float = 200, release: Release = PAGE
) -> AsyncIterator[tuple[EngineServer, str]]:
    argv = [*ARGS, "--gpu-memory-utilization", "0.95", *more]
    chosen = newer_flags.parse(argv, release) if release.newer else flags.parse(argv)
    place = hardware.Place("A10" if release.v1 else "V100-16")
    found = hardware.prepare(place, chosen, model().config)
    made = EngineServer(
        chosen, model(), found.hardware, max_model_len=found.longest, time_scale=time_scale
    )
    listening = await listen(made.app())
    try:
        yield made, listening.url
    finally:
        await listening.close()


def in_engine(
    *more: str, **options: Any
) -> Callable[[Callable[[str], Awaitable[None]]], Callable[[], None]]:
    """Run a test against a server with these flags; the test gets its address."""

    def decorated(test: Callable[[str], Awaitable[None]]) -> Callable[[], None]:
        async def run() -> None:
            async with engine(*more, **options) as (_, url):
                await test(url)

        return lambda: paced.run(run())

    return decorated


async def post(url: str, body: Any, path: str = CHAT) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client() as session, session.post(url + path, data=data) as response:
        return response.status, await response.json()


async def sse(url: str, body: Any, path: str = CHAT) -> list[Any]:
    """Return a stream's chunks; it must end as streams do."""
    async with client() as session, session.post(url + path, json=body) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        text = await response.text()
    *events, done, nothing = text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    assert all(event.startswith("data: ") for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


async def metrics(url: str) -> dict[str, float]:
    """Return the samples by name and label."""
    async with client() as session, session.get(f"{url}/metrics") as response:
        text = await response.text()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    assert all(sample.labels["model_name"] == "qwen" for sample in samples)
    return {
        sample.name + sample.labels.get("le", "") + sample.labels.get("finished_reason", ""): (
            sample.value
        )
        for sample in samples
    }
