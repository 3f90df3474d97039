"""A step that fails ends the engine: every request with it, then the container, and it is said."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from node_world import World, client, in_world, model_files, until

TABLE = "model.embed_tokens.weight"
POISON = {"messages": [{"role": "user", "content": "西湖"}]}
HARMLESS = {"prompt": "西湖", "max_tokens": 2000, "ignore_eos": True}
DEAD = (500, "Internal Server Error")


def without_special_tokens(folder: Path) -> None:
    """Give the model an embedding of its ordinary tokens alone: those of a chat break it."""
    files = model_files()
    config = json.loads(files["config.json"])
    config["vocab_size"] = min(
        token["id"] for token in json.loads(files["tokenizer.json"])["added_tokens"]
    )
    (folder / "config.json").write_text(json.dumps(config))
    shard = json.loads(files["model.safetensors.index.json"])["weight_map"][TABLE]
    (folder / shard).write_bytes(cut(files[shard], TABLE, config["vocab_size"]))


def cut(shard: bytes, tensor: str, rows: int) -> bytes:
    """Return a safetensors file of which one tensor has fewer rows."""
    start = 8 + int.from_bytes(shard[:8], "little")
    header = json.loads(shard[8:start])
    first, last = header[tensor]["data_offsets"]
    per_row = (last - first) // header[tensor]["shape"][0]
    gone = last - (first + rows * per_row)
    header[tensor]["shape"][0] = rows
    for name, entry in header.items():
        if name != "__metadata__":
            before, after = entry["data_offsets"]
            entry["data_offsets"] = [
                before - gone * (before >= last),
                after - gone * (after >= last),
            ]
    head = json.dumps(header).encode()
    data = shard[start : start + last - gone] + shard[start + last :]
    return len(head).to_bytes(8, "little") + head + data


async def ask(url: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
    body = {"model": "qwen", **body}
    async with client() as session, session.post(url + path, json=body) as response:
        return response.status, await response.text()


async def stream(url: str, begun: asyncio.Event) -> None:
    body = {"model": "qwen", "stream": True, **HARMLESS}
    async with (
        client() as session,
        session.post(f"{url}/v1/completions", json=body) as response,
    ):
        assert response.status == 200
        async for _ in response.content:
            begun.set()


def test_one_poisoned_request_ends_all_and_the_container_restarts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(made: World) -> None:
        def url() -> str:
            return (
                made.node.address(made.store.get("Pod", "default", "one")["metadata"]["uid"]) or ""
            )

        without_special_tokens(made.folder)
        made.pod("one")
        await until(lambda: made.ready("one"))
        begun = asyncio.Event()
        streams = asyncio.create_task(stream(url(), begun))
        waits = asyncio.create_task(ask(url(), "/v1/completions", HARMLESS))
        async with asyncio.timeout(60):
            await begun.wait()
            assert await ask(url(), "/v1/chat/completions", POISON) == DEAD
            assert await waits == DEAD
            with pytest.raises(aiohttp.ClientPayloadError):
                await streams
        await until(lambda: made.container("one").get("restartCount") == 1 and url())
        ended = made.container("one")["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (1, "Error")
        assert "IndexError" in ended["message"]
        assert ended["message"].endswith("AsyncEngineDeadError: Task finished unexpectedly.\n")
        assert (await ask(url(), "/v1/completions", HARMLESS | {"max_tokens": 3}))[0] == 200
        assert await ask(url(), "/v1/chat/completions", POISON) == DEAD
        await until(lambda: "BackOff" in made.reasons("one"))

    in_world(tmp_path, test)
    said = [record for record in caplog.records if record.name == "qwenkit.sandbox.engine"]
    assert [(record.levelno, record.message) for record in said] == [
        (logging.ERROR, "the engine died")
    ] * 2
    assert all(record.exc_info for record in said)
