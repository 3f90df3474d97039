"""The sandbox's own times come back from what a client measures of it.

On paced time, in which the engine is never late: how busy this machine is does not count.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from random import Random

import aiohttp
import paced
import pytest
from engine_world import CHAT, engine
from node_world import client

from qwenkit.capacity.calibration.card import Card
from qwenkit.capacity.catalogue import QWEN_7B_INT8
from qwenkit.capacity.gpu import find_gpu
from qwenkit.capacity.step_time import StepTime
from qwenkit.inference.results import LoadRequest
from qwenkit.loadtest.speed import Figures, figures_of
from qwenkit.sandbox.engine import batch

CLOCK, ANSWER = 20.0, 40
BATCHES, CONTEXTS, PROMPTS = (1, 2, 4, 8, 16, 24, 32), (32, 640), (256, 1024, 4000)
BETWEEN: list[Callable[[StepTime], float]] = [
    lambda time: time.decode(3, 100),
    lambda time: time.decode(6, 400),
    lambda time: time.decode(12, 60),
    lambda time: time.decode(20, 300),
    lambda time: time.decode(28, 200),
    lambda time: time.prefill(600),
    lambda time: time.prefill(2500),
]


async def streamed(
    session: aiohttp.ClientSession, url: str, prompt: int, answer: int, number: int = 0
) -> LoadRequest:
    words = Random(f"{prompt} {number}").choices(["the", "be", "of", "to", "in"], k=prompt)
    body = {"messages": [{"role": "user", "content": " ".join(words)}], "model": "qwen"}
    body |= {"max_tokens": answer, "ignore_eos": True, "temperature": 0, "stream": True}
    now = asyncio.get_running_loop().time
    times, usage, sent = [], {"prompt_tokens": prompt}, now()
    async with session.post(url + CHAT, json=body) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                event = json.loads(line.removeprefix(b"data: "))
                usage = event.get("usage") or usage
                times += [now()] if event["choices"][0]["delta"].get("content") else []
    return LoadRequest(
        number=number,
        scheduled_s=sent,
        sent_s=sent,
        first_byte_s=None,
        first_s=times[0] if times else None,
        last_s=times[-1] if times else now(),
        end_s=now(),
        token_s=times,
        status=200,
        outcome="ok",
        why="",
        prompt_tokens=usage["prompt_tokens"],
        tokens=answer,
    )


async def measured() -> Figures:
    found: Figures = {"decode": [], "prefill_s": {}}
    async with engine("--max-model-len", "4608", time_scale=CLOCK) as (_, url), client() as session:
        for prompt in PROMPTS:
            alone = [await streamed(session, url, prompt, 1)]
            found["prefill_s"] |= figures_of(alone, CLOCK)["prefill_s"]
        for context in CONTEXTS:
            for count in BATCHES:
                asked = (streamed(session, url, context, ANSWER, n) for n in range(count))
                steps = figures_of(await asyncio.gather(*asked), CLOCK)["decode"]
                found["decode"] += [one for one in steps if one["batch"] == count]
    return found


def test_its_own_times_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paced, "_TURN_S", 0.0)
    monkeypatch.setattr(batch, "_THREAD_PAIRS", math.inf)  # a wait for a thread would count
    file = {"card": {"name": "V100-16"}, "v1": False, "model": {"shape": QWEN_7B_INT8.name}}
    file |= {"runs": {"measured": paced.run(measured())}}
    card = Card.of("own", file, "2026-11-27")
    found, own = (StepTime(gpu, QWEN_7B_INT8, v1=False) for gpu in (card.gpu, find_gpu("V100-16")))
    for predict in BETWEEN:
        assert predict(found) == pytest.approx(predict(own), rel=0.03)
