"""vLLM 0.4.1's OpenAI surface, over HTTP: answers, streams, log probabilities, metrics."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import aiohttp
import httpx
import openai
import paced
import pytest
from engine_world import COMPLETION, engine, in_engine, metrics, model, post, sse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from node_world import LAKE, client, lake, until

from qwenkit.sandbox.engine.releases import Release

SEEDED = {"model": "qwen", "prompt": "Knative", "max_tokens": 24, "seed": 7, "temperature": 1.2}


def seeded(**more: Any) -> dict[str, Any]:
    """A completion that wanders, but always the same way."""
    return SEEDED | more


@in_engine()
async def test_the_documentations_request_has_the_documentations_answer(url: str) -> None:
    nulls = dict.fromkeys(("best_of", "logit_bias", "response_format", "echo"))  # some clients do
    status, answer = await post(url, lake(**nulls))
    assert status == 200
    assert answer.pop("id").startswith("cmpl-")
    assert isinstance(answer.pop("created"), int)
    content = "西湖位于中国浙江省杭州市,是中国著名的风景名"
    assert answer == {
        "object": "chat.completion",
        "model": "qwen",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
            }
        ],
        "usage": {"prompt_tokens": 10, "total_tokens": 20, "completion_tokens": 10},
    }


@in_engine("--served-model-name", "qwen", "two")
async def test_the_openai_client_chats_and_streams(url: str) -> None:
    http = httpx.AsyncClient(trust_env=False)
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="EMPTY", http_client=http, max_retries=0
    ) as api:
        messages: Any = [{"role": "user", "content": "杭州西湖"}]
        whole = await api.chat.completions.create(model="qwen", messages=messages)
        said = whole.choices[0].message.content
        assert said is not None
        assert said.startswith("".join(LAKE))
        assert whole.choices[0].finish_reason == "stop"
        stream = await api.chat.completions.create(model="qwen", messages=messages, stream=True)
        parts = [part async for part in stream]
        assert "".join(p.choices[0].delta.content or "" for p in parts) == said
        assert parts[0].choices[0].delta.role == "assistant"
        # The end-of-text token counts, and says nothing.
        assert whole.usage is not None
        assert len(parts) == whole.usage.completion_tokens + 1
        assert parts[-1].choices[0].finish_reason == "stop"
        completion = await api.completions.create(
            model="qwen", prompt="Knative", logprobs=2, max_tokens=3
        )
        assert completion.choices[0].logprobs is not None
        assert len(completion.choices[0].logprobs.tokens or []) == 3
        assert [card.id async for card in api.models.list()] == ["qwen", "two"]


@in_engine()
async def test_a_chats_stream_has_vllms_chunks(url: str) -> None:
    first, *middle, last = await sse(url, lake(stream=True))
    assert set(first) == {"id", "object", "created", "model", "choices"}
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant"}, "logprobs": None, "finish_reason": None}
    ]
    assert [one["choices"][0] for one in middle] == [
        {"index": 0, "delta": {"content": piece}, "logprobs": None, "finish_reason": None}
        for piece in LAKE[:9]
    ]
    assert last["choices"] == [
        {"index": 0, "delta": {"content": LAKE[9]}, "finish_reason": "length"}
    ]
    assert last["usage"] == {"prompt_tokens": 10, "total_tokens": 20, "completion_tokens": 10}
    assert len({one["id"] for one in (first, *middle, last)}) == 1


@in_engine()
async def test_a_completions_stream_has_vllms_chunks(url: str) -> None:
    *middle, last = await sse(url, seeded(max_tokens=3, stream=True), COMPLETION)
    for one in middle:
        assert set(one) == {"id", "created", "model", "choices", "usage"}
        assert one["usage"] is None
        assert one["choices"][0].keys() >= {"text", "logprobs", "stop_reason"}
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["usage"] == {"prompt_tokens": 1, "total_tokens": 4, "completion_tokens": 3}


@in_engine()
async def test_several_prompts_and_answers_come_in_order(url: str) -> None:
    body = seeded(prompt=["Knative", "KPA"], n=2, max_tokens=8)
    _, answer = await post(url, body, COMPLETION)
    assert [one["index"] for one in answer["choices"]] == [0, 1, 2, 3]
    whole = [one["text"] for one in answer["choices"]]
    assert len(set(whole)) > 2
    assert answer["usage"]["prompt_tokens"] == 2
    # One of several is what it is alone.
    _, alone = await post(url, seeded(prompt="KPA", max_tokens=8), COMPLETION)
    assert alone["choices"][0]["text"] == whole[2]
    texts = dict.fromkeys(range(4), "")
    for chunk in await sse(url, body | {"stream": True}, COMPLETION):
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert list(texts.values()) == whole
    roles = await sse(url, lake(stream=True, n=2))
    assert [one["choices"][0]["delta"].get("role") for one in roles[:3]] == [
        "assistant",
        "assistant",
        None,
    ]


@in_engine()
async def test_tokens_are_a_prompt_as_good_as_text(url: str) -> None:
    ids = model().tokenizer.encode("Knative KPA")
    _, by_text = await post(url, seeded(prompt="Knative KPA"), COMPLETION)
    _, by_ids = await post(url, seeded(prompt=ids), COMPLETION)
    _, by_lists = await post(url, seeded(prompt=[ids]), COMPLETION)
    assert by_text["choices"] == by_ids["choices"] == by_lists["choices"]


@in_engine()
async def test_log_probabilities_are_those_of_the_model(url: str) -> None:
    body = {"model": "qwen", "prompt": "Knative KPA", "max_tokens": 4, "temperature": 0}
    _, answer = await post(url, body | {"logprobs": 3}, COMPLETION)
    (choice,) = answer["choices"]
    found = choice["logprobs"]
    assert list(found) == ["text_offset", "token_logprobs", "tokens", "top_logprobs"]
    assert "".join(found["tokens"]).startswith(choice["text"])
    ends = [a + len(t) for a, t in zip(found["text_offset"], found["tokens"], strict=True)]
    assert [0, *ends[:-1]] == found["text_offset"]
    ids = model().tokenizer.encode("Knative KPA")
    row = model().model.forward([(model().model.new_cache(), ids)])[0].astype(float)
    exact = -math.log(sum(math.exp(x - row.max()) for x in row))
    assert found["token_logprobs"][0] == pytest.approx(exact, abs=1e-3)
    # Greedy tokens are their own most probable ones.
    for token, logprob, top in zip(
        found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
    ):
        assert top[token] == logprob == max(top.values())
        assert len(top) == 3


@in_engine()
async def test_a_chats_log_probabilities_have_the_same_form(url: str) -> None:
    body = lake(logprobs=True, top_logprobs=2, temperature=0)
    _, answer = await post(url, body)
    found = answer["choices"][0]["logprobs"]
    assert found["tokens"] == LAKE
    assert all(len(top) == 2 for top in found["top_logprobs"])
    chunks = await sse(url, body | {"stream": True})
    streamed = [one["choices"][0]["logprobs"] for one in chunks[1:]]
    for name in ("tokens", "text_offset", "token_logprobs", "top_logprobs"):
        assert [one[name][0] for one in streamed] == found[name]


requests = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["Knative", "杭州西湖", "KPA 是", "a"]),
        "seed": st.integers(0, 5),
        "temperature": st.sampled_from([0.3, 1.0, 3.0]),
        "top_p": st.sampled_from([0.5, 1.0]),
        "top_k": st.sampled_from([-1, 5]),
        "max_tokens": st.integers(1, 30),
        "ignore_eos": st.booleans(),
        "stop": st.lists(st.sampled_from(["。", "的", " is", "e", "an"]), max_size=2),
        "repetition_penalty": st.sampled_from([1.0, 1.3]),
    }
)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(requests, min_size=5, max_size=20))
def test_streamed_or_whole_alone_or_among_others_the_answer_is_the_same(
    several: list[dict[str, Any]],
) -> None:
    async def test(url: str) -> None:
        bodies = [{"model": "qwen"} | one for one in several]
        together = await asyncio.gather(*(post(url, body, COMPLETION) for body in bodies))
        streams = await asyncio.gather(
            *(sse(url, body | {"stream": True}, COMPLETION) for body in bodies)
        )
        _, alone = await post(url, bodies[0], COMPLETION)
        assert alone["choices"] == together[0][1]["choices"]
        for (status, answer), chunks in zip(together, streams, strict=True):
            (choice,) = answer["choices"]
            last = chunks[-1]["choices"][0]
            assert status == 200
            assert "".join(one["choices"][0]["text"] for one in chunks) == choice["text"]
            assert chunks[-1]["usage"] == answer["usage"]
            assert len(chunks) == answer["usage"]["completion_tokens"]
            for name in ("finish_reason", "stop_reason"):
                assert last[name] == choice[name]

    in_engine(time_scale=1000)(test)()


@in_engine("--num-gpu-blocks-override", "12")
async def test_preempted_answers_stay_the_same_and_are_counted(url: str) -> None:
    bodies = [seeded(seed=seed, max_tokens=60, ignore_eos=True) for seed in range(6)]
    alone = [(await post(url, body, COMPLETION))[1]["choices"] for body in bodies]
    assert (await metrics(url))["vllm:num_preemptions_total"] == 0
    answers = await asyncio.gather(*(post(url, body, COMPLETION) for body in bodies))
    assert [answer["choices"] for _, answer in answers] == alone
    assert (await metrics(url))["vllm:num_preemptions_total"] > 0


@in_engine("--api-key", "k")
async def test_an_api_key_guards_v1_only(url: str) -> None:
    async with client() as session:
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


@in_engine(release=Release((0, 26, 0)))
async def test_a_newer_release_answers_in_its_own_way(url: str) -> None:
    chunks = await sse(url, lake(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 10, "total_tokens": 20, "completion_tokens": 10}
    assert not any("usage" in chunk for chunk in chunks[:-1])
    assert {chunk["id"][:9] for chunk in chunks} == {"chatcmpl-"}
    assert not any("usage" in one for one in await sse(url, lake(stream=True)))
    _, short = await post(url, lake(max_tokens=None, max_completion_tokens=3))
    assert short["usage"]["completion_tokens"] == 3
    status, refusal = await post(url, lake(model="other"))
    assert (status, refusal["error"]["type"]) == (404, "NotFoundError")
    assert {"vllm:kv_cache_usage_perc", "vllm:inter_token_latency_seconds_sum"} <= set(
        await metrics(url)
    )
    async with client() as session:
        async with session.get(f"{url}/v1/models") as response:
            (card,) = (await response.json())["data"]
        async with session.get(f"{url}/version") as response:
            assert await response.json() == {"version": "0.26.0"}
    assert (card["id"], card["root"], card["max_model_len"]) == ("qwen", "/m", 128)


@in_engine()
async def test_a_stop_token_ends_an_answer(url: str) -> None:
    second = model().tokenizer.encode("西湖位于")[1]
    _, answer = await post(url, lake(stop_token_ids=[second]))
    (choice,) = answer["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", second)
    assert answer["usage"]["completion_tokens"] == 2


@in_engine()
async def test_metrics_add_up(url: str) -> None:
    await asyncio.gather(
        *(post(url, seeded(ignore_eos=True, max_tokens=10), COMPLETION) for _ in range(3))
    )
    await post(url, seeded(n=2, stop="e"), COMPLETION)
    found = await metrics(url)
    assert found["vllm:prompt_tokens_total"] == 5
    assert found["vllm:num_requests_running"] == found["vllm:num_requests_waiting"] == 0
    assert found["vllm:num_requests_swapped"] == found["vllm:gpu_cache_usage_perc"] == 0
    assert found["vllm:request_success_totallength"] >= 3
    ended = sum(found[f"vllm:request_success_total{why}"] for why in ("stop", "length"))
    assert ended == found["vllm:time_to_first_token_seconds_count"] == 5
    assert ended == found["vllm:time_to_first_token_seconds_bucket+Inf"]
    assert ended == found["vllm:e2e_request_latency_seconds_count"]
    made = found["vllm:generation_tokens_total"]
    assert made == found["vllm:request_generation_tokens_sum"]
    assert found["vllm:time_per_output_token_seconds_count"] == made - ended
    assert found["vllm:request_prompt_tokens_sum"] == 5
    assert (found["vllm:request_params_n_sum"], found["vllm:request_params_n_count"]) == (5, 4)


def test_a_client_that_leaves_frees_its_place() -> None:
    async def run() -> None:
        async with engine("--max-num-seqs", "1", time_scale=0.1) as (made, url):
            async with client() as session:
                body = lake(stream=True, max_tokens=100, ignore_eos=True)
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

    paced.run(run())


@in_engine(time_scale=50)
async def test_two_hundred_streams_at_once(url: str) -> None:
    body = lake(stream=True, ignore_eos=True)
    chunks = await asyncio.gather(*(sse(url, body) for _ in range(200)))
    assert {len(one) for one in chunks} == {11}


@in_engine(time_scale=1)
async def test_bytes_arrive_token_by_token(url: str) -> None:
    async with client() as session:
        body = lake(stream=True, ignore_eos=True)
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            reads = [chunk async for chunk in response.content.iter_any()]
    assert len(reads) >= 8


@in_engine()
async def test_a_session_without_json_headers_is_served(url: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{url}/v1/chat/completions", data=json.dumps(lake()), headers=headers
        ) as response,
    ):
        assert response.status == 200
