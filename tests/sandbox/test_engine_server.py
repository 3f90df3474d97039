"""vLLM 0.4.1's OpenAI surface, over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import openai
import pytest
from node_world import LAKE, client, lake, model_files, until
from prometheus_client.parser import text_string_to_metric_families

from qwenkit.sandbox.engine import checkpoint, flags, hardware
from qwenkit.sandbox.engine.server import Engine
from qwenkit.sandbox.http import listen

ARGS = ("--model", "/m", "--served-model-name", "qwen", "--max-model-len", "128")


@asynccontextmanager
async def engine(*more: str, time_scale: float = 200) -> AsyncIterator[tuple[Engine, str]]:
    chosen = flags.parse([*ARGS, "--gpu-memory-utilization", "0.95", *more])
    model = checkpoint.load(model_files(), "/m")
    gpu, longest = hardware.fit("V100-16", chosen, model.config)
    made = Engine(chosen, model, gpu, max_model_len=longest, time_scale=time_scale)
    listening = await listen(made.app())
    try:
        yield made, listening.url
    finally:
        await listening.close()


async def post(url: str, body: Any, path: str = "/v1/chat/completions") -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client() as session, session.post(url + path, data=data) as response:
        return response.status, await response.json()


async def sse(url: str, body: Any, path: str = "/v1/chat/completions") -> list[str]:
    async with client() as session, session.post(url + path, json=body) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        text = await response.text()
    events = text.split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    return [event.removeprefix("data: ") for event in events]


def test_the_openai_client_chats_and_streams() -> None:
    async def run() -> None:
        async with engine() as (_, url):
            http = httpx.AsyncClient(trust_env=False)
            async with openai.AsyncOpenAI(
                base_url=f"{url}/v1", api_key="EMPTY", http_client=http, max_retries=0
            ) as api:
                messages: Any = [{"role": "user", "content": "杭州西湖"}]
                whole = await api.chat.completions.create(model="qwen", messages=messages)
                assert whole.choices[0].message.content == "".join(LAKE)
                assert whole.choices[0].finish_reason == "stop"
                # The end-of-text token counts.
                assert whole.usage is not None
                assert whole.usage.completion_tokens == len(LAKE) + 1
                stream = await api.chat.completions.create(
                    model="qwen", messages=messages, stream=True
                )
                parts = [part async for part in stream]
                assert [p.choices[0].delta.content or "" for p in parts] == ["", *LAKE, ""]
                assert parts[-1].choices[0].finish_reason == "stop"
                assert [card.id async for card in api.models.list()] == ["qwen"]

    asyncio.run(run())


def test_a_stream_has_vllms_chunks() -> None:
    async def run() -> None:
        async with engine() as (_, url):
            *chunks, done = await sse(url, lake(stream=True))
        assert done == "[DONE]"
        first, *middle, last = map(json.loads, chunks)
        assert first["object"] == "chat.completion.chunk"
        assert first["choices"] == [
            {"index": 0, "delta": {"role": "assistant"}, "logprobs": None, "finish_reason": None}
        ]
        assert [one["choices"][0]["delta"]["content"] for one in middle] == LAKE[:9]
        assert last["choices"] == [
            {"index": 0, "delta": {"content": LAKE[9]}, "finish_reason": "length"}
        ]
        assert last["usage"] == {"prompt_tokens": 10, "total_tokens": 20, "completion_tokens": 10}
        assert len({one["id"] for one in (first, *middle, last)}) == 1

    asyncio.run(run())


def test_completions_take_prompts_and_stop_strings() -> None:
    async def run() -> None:
        async with engine() as (_, url):
            body = {"model": "qwen", "prompt": ["count", "count"], "max_tokens": 50, "stop": "4 "}
            status, answer = await post(url, body, "/v1/completions")
            assert status == 200
            assert answer["object"] == "text_completion"
            assert [one["text"] for one in answer["choices"]] == ["0 1 2 3 "] * 2
            assert {one["finish_reason"] for one in answer["choices"]} == {"stop"}
            assert {one["stop_reason"] for one in answer["choices"]} == {"4 "}
            assert [one["index"] for one in answer["choices"]] == [0, 1]
            body = {"model": "qwen", "prompt": "count", "max_tokens": 3, "echo": True}
            _, answer = await post(url, body, "/v1/completions")
            assert answer["choices"][0]["text"] == "count0 1 2 "
            *chunks, _ = await sse(url, body | {"stream": True, "n": 2}, "/v1/completions")
            texts = {0: "", 1: ""}
            for chunk in map(json.loads, chunks):
                texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
            assert texts == {0: "0 1 2 ", 1: "0 1 2 "}

    asyncio.run(run())


def test_ignore_eos_goes_on_to_max_tokens() -> None:
    async def run() -> None:
        async with engine() as (_, url):
            _, answer = await post(url, lake(max_tokens=40, ignore_eos=True))
        assert answer["usage"]["completion_tokens"] == 40
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["choices"][0]["message"]["content"].startswith("".join(LAKE) * 3)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        (lake(model="x"), 404, "NotFoundError", "The model `x` does not exist."),
        (lake(temperature=-1), 400, "BadRequestError", "temperature must be non-negative, got -1."),
        (lake(top_p=0), 400, "BadRequestError", "top_p must be in (0, 1], got 0."),
        (lake(max_tokens=0), 400, "BadRequestError", "max_tokens must be at least 1, got 0."),
        (lake(n=0), 400, "BadRequestError", "n must be at least 1, got 0."),
        (
            lake(max_tokens=119),
            400,
            "BadRequestError",
            "This model's maximum context length is 128 tokens. However, you requested 129 tokens "
            "(10 in the messages, 119 in the completion). Please reduce the length of the messages "
            "or completion.",
        ),
        (lake(max_tokens="ten"), 400, "BadRequestError", "'loc': ('body', 'max_tokens')"),
        (lake(stream="yes"), 400, "BadRequestError", "'loc': ('body', 'stream')"),
        (lake(messages=[]), 400, "BadRequestError", "'loc': ('body', 'messages')"),
        (lake(messages=[{"role": "user"}]), 400, "BadRequestError", "Field required"),
        ({"model": "qwen"}, 400, "BadRequestError", "Field required"),
        (b"{", 400, "BadRequestError", "JSON decode error"),
        (b"[]", 400, "BadRequestError", "valid dictionary"),
        (lake(logprobs=True), 400, "BadRequestError", "not supported by the sandbox's engine"),
    ],
)
def test_refusals_are_vllms(body: Any, status: int, kind: str, words: str) -> None:
    async def run() -> None:
        async with engine() as (_, url):
            got, answer = await post(url, body)
        assert got == status
        assert set(answer) == {"object", "message", "type", "param", "code"}
        assert (answer["object"], answer["type"], answer["code"]) == ("error", kind, status)
        assert words in answer["message"]

    asyncio.run(run())


def test_a_prompt_beyond_the_context_is_refused() -> None:
    async def run() -> None:
        async with engine() as (_, url):
            long = [{"role": "user", "content": "湖" * 300}]
            status, answer = await post(url, {"model": "qwen", "messages": long})
        assert status == 400
        assert "you requested 158 tokens in the messages" in answer["message"]

    asyncio.run(run())


def test_an_api_key_guards_v1_only() -> None:
    async def run() -> None:
        async with engine("--api-key", "k") as (_, url), client() as session:
            async with session.get(f"{url}/v1/models") as response:
                assert response.status == 401
            header = {"Authorization": "Bearer k"}
            async with session.get(f"{url}/v1/models", headers=header) as response:
                assert response.status == 200
            async with session.get(f"{url}/health") as response:
                assert (response.status, await response.read()) == (200, b"")
            async with session.get(f"{url}/version") as response:
                assert await response.json() == {"version": "0.4.1"}
            async with session.get(f"{url}/nothing") as response:
                assert response.status == 404

    asyncio.run(run())


async def metrics(url: str) -> dict[str, float]:
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


def test_metrics_follow_the_requests() -> None:
    async def run() -> None:
        async with engine() as (_, url):
            await asyncio.gather(*(post(url, lake()) for _ in range(3)))
            found = await metrics(url)
        assert found["vllm:prompt_tokens_total"] == 30
        assert found["vllm:generation_tokens_total"] == 30
        assert found["vllm:num_requests_running"] == found["vllm:num_requests_waiting"] == 0
        assert found["vllm:gpu_cache_usage_perc"] == 0
        assert found["vllm:request_success_totallength"] == 3
        assert found["vllm:time_to_first_token_seconds_count"] == 3
        assert found["vllm:time_to_first_token_seconds_bucket+Inf"] == 3
        assert found["vllm:time_per_output_token_seconds_count"] == 27
        assert found["vllm:e2e_request_latency_seconds_count"] == 3

    asyncio.run(run())


def test_a_client_that_leaves_frees_its_place() -> None:
    async def run() -> None:
        async with engine("--max-num-seqs", "1", time_scale=0.1) as (made, url):
            async with client() as session:
                body = lake(stream=True, max_tokens=None)
                response = await session.post(f"{url}/v1/chat/completions", json=body)
                await response.content.readany()
                waiting = asyncio.create_task(post(url, lake(max_tokens=1)))
                await until(lambda: made.in_flight == 2)
                found = await metrics(url)
                assert found["vllm:num_requests_running"] == 1
                assert found["vllm:num_requests_waiting"] == 1
                assert found["vllm:gpu_cache_usage_perc"] > 0
                response.close()
            status, _ = await waiting
            assert status == 200
            await until(lambda: made.in_flight == 0)
            assert (await metrics(url))["vllm:request_success_totalabort"] == 1

    asyncio.run(run())


def test_two_hundred_streams_at_once() -> None:
    async def run() -> None:
        async with engine(time_scale=50) as (_, url), client() as session:

            async def one() -> int:
                body = lake(stream=True, max_tokens=10)
                async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                    return (await response.text()).count("data: ")

            counts = await asyncio.gather(*(one() for _ in range(200)))
        assert set(counts) == {12}

    asyncio.run(run())


def test_bytes_arrive_token_by_token() -> None:
    async def run() -> None:
        async with engine(time_scale=1) as (_, url), client() as session:
            body = lake(stream=True)
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                reads = [chunk async for chunk in response.content.iter_any()]
        assert len(reads) >= 8

    asyncio.run(run())


def test_a_session_without_json_headers_is_served() -> None:
    async def run() -> None:
        async with engine() as (_, url), aiohttp.ClientSession() as session:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            data = json.dumps(lake())
            async with session.post(
                f"{url}/v1/chat/completions", data=data, headers=headers
            ) as response:
                assert response.status == 200

    asyncio.run(run())
