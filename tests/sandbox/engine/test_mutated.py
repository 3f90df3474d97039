"""Mutated bodies of chats and completions: an answer or a refusal, never a 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
from engine_world import CHAT, COMPLETION, in_engine
from fuzz_mutations import Mutator
from node_world import client, lake

COMPLETIONS = [
    {"model": "qwen", "prompt": "a", "max_tokens": 2},
    {"model": "qwen", "prompt": [1, 2], "max_tokens": 2, "logprobs": 1, "n": 2, "stop": ["b"]},
    {"model": "qwen", "prompt": ["a", "b"], "max_tokens": 2, "stream": True, "seed": 1},
]
CHATS = [lake(max_tokens=2), lake(max_tokens=2, stream=True, top_k=3, top_p=0.5, n=2)]
DEEP = b'{"model": "qwen", "messages": ' + b"[" * 900 + b"]" * 900 + b"}"


@pytest.mark.parametrize(("path", "bodies"), [(COMPLETION, COMPLETIONS), (CHAT, CHATS)])
def test_no_body_makes_the_engine_fail(path: str, bodies: list[Any]) -> None:
    async def test(url: str) -> None:
        async with client() as session:
            for number in range(120):
                mutator = Mutator((path, number))
                body = mutator.value(mutator.one_of(bodies))
                try:
                    data = json.dumps(body, default=str).encode("utf-8", "surrogatepass")
                except ValueError:
                    continue  # numbers that Python cannot print
                async with session.post(url + path, data=data) as response:
                    await response.read()
                    assert response.status in (200, 400, 404), (response.status, data[:500])

    in_engine()(test)()


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (DEEP, CHAT),
        (b"\xff", CHAT),
        (b'{"model": "qwen", "prompt": ' + b"9" * 5000 + b"}", COMPLETION),
        (json.dumps({"model": "qwen", "prompt": ["a"] * 20_000}).encode(), COMPLETION),
    ],
)
def test_a_body_without_bounds_is_refused(data: bytes, path: str) -> None:
    async def test(url: str) -> None:
        async with client() as session, session.post(url + path, data=data) as response:
            assert response.status == 400
            assert len(await response.read()) < 100_000

    in_engine()(test)()
