"""What vLLM 0.4.1 refuses, over HTTP, in its words."""

from __future__ import annotations

from typing import Any

import pytest
from engine_world import COMPLETION, in_engine, post
from node_world import lake

BAD, MISSING = "BadRequestError", "NotFoundError"
LENGTH = "This model's maximum context length is 128 tokens. However, you requested "


def refused(body: Any, path: str, status: int, kind: str, words: str) -> None:
    async def test(url: str) -> None:
        got, answer = await (post(url, body, path) if path else post(url, body))
        assert got == status
        assert set(answer) == {"object", "message", "type", "param", "code"}
        assert (answer["object"], answer["type"], answer["code"]) == ("error", kind, status)
        assert words in answer["message"]

    in_engine()(test)()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lake(temperature=-1), "temperature must be non-negative, got -1.0."),
        (lake(top_p=0), "top_p must be in (0, 1], got 0.0."),
        (lake(top_p=1.5), "top_p must be in (0, 1], got 1.5."),
        (lake(top_k=0), "top_k must be -1 (disable), or at least 1, got 0."),
        (lake(presence_penalty=3), "presence_penalty must be in [-2, 2], got 3.0."),
        (lake(frequency_penalty=-3), "frequency_penalty must be in [-2, 2], got -3.0."),
        (lake(repetition_penalty=0), "repetition_penalty must be in (0, 2], got 0.0."),
        (lake(max_tokens=0), "max_tokens must be at least 1, got 0."),
        (lake(n=0), "n must be at least 1, got 0."),
        (lake(n=2, temperature=0), "best_of must be 1 when using greedy sampling.Got 2."),
        (lake(n=129), "at most 128 in the sandbox's engine"),
        (lake(stop=["a", ""]), "stop cannot contain an empty string."),
        (lake(logprobs=True), "Top logprobs must be set when logprobs is."),
        (lake(logprobs=True, top_logprobs=6), "Cannot request more than 5 logprobs."),
        (lake(logprobs=True, top_logprobs=-1), "logprobs must be non-negative, got -1."),
        (lake(max_tokens=119), f"{LENGTH}129 tokens (10 in the messages, 119 in the completion)."),
        (lake(messages=[{"role": "user"}]), "no attribute 'content'"),
    ],
)
def test_values_out_of_range(body: Any, words: str) -> None:
    refused(body, "", 400, BAD, words)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("best_of", 2),
        ("echo", True),
        ("logit_bias", {"1": 1}),
        ("min_p", 0.1),
        ("min_tokens", 1),
        ("include_stop_str_in_output", True),
        ("skip_special_tokens", False),
        ("add_generation_prompt", False),
        ("use_beam_search", True),
        ("guided_json", {"type": "object"}),
        ("response_format", {"type": "json_object"}),
    ],
)
def test_what_this_engine_does_not_have(name: str, value: Any) -> None:
    refused(lake(**{name: value}), "", 400, BAD, f"{name} is not supported by the sandbox's engine")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            lake(max_tokens="ten"),
            "[{'type': 'int_parsing', 'loc': ('body', 'max_tokens'), 'msg': 'Input should be a "
            "valid integer, unable to parse string as an integer', 'input': 'ten'}]",
        ),
        (lake(stream="perhaps"), "'bool_parsing', 'loc': ('body', 'stream')"),
        (lake(messages="hello"), "'list_type', 'loc': ('body', 'messages')"),
        (
            lake(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}]}]),
            "'string_type', 'loc': ('body', 'messages', 0, 'content')",
        ),
        (lake(seed=2**63), "'loc': ('body', 'seed')"),
        (lake(stop=[3]), "'loc': ('body', 'stop', 'list[str]', 0)"),
        ({"model": "qwen"}, "'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'"),
        (lake(model=None), "'string_type', 'loc': ('body', 'model')"),
        (b"{", "'json_invalid', 'loc': ('body', 1), 'msg': 'JSON decode error'"),
        (b"[" * 100_000, "JSON decode error"),
        (b"[]", "'model_attributes_type', 'loc': ('body',)"),
        (
            b'{"model": "qwen", "messages": [{"role": "user", "content": "\\ud800"}]}',
            "JSON decode error",
        ),
        (b'{"model": "qwen", "messages": [], "top_p": NaN}', "'finite_number'"),
    ],
)
def test_wrong_types_and_broken_json(body: Any, words: str) -> None:
    refused(body, "", 400, BAD, words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"prompt": []}, "please provide at least one prompt"),
        ({"prompt": ""}, "the prompt has no tokens"),
        ({"prompt": [[1], []]}, "the prompt has no tokens"),
        ({"prompt": [5, 99999]}, "prompt: token id 99999 is not in [0, "),
        ({"prompt": {"a": 1}}, "'loc': ('body', 'prompt', 'str')"),
        ({"prompt": "a", "suffix": "b"}, "suffix is not currently supported"),
        ({"prompt": "a", "logprobs": 6}, "Cannot request more than 5 logprobs."),
        ({"prompt": [5] * 120}, f"{LENGTH}136 tokens (120 in the messages, 16 in the completion)"),
        ({"prompt": [5] * 128, "max_tokens": None}, f"{LENGTH}128 tokens in the messages, Please"),
    ],
)
def test_completions(more: Any, words: str) -> None:
    refused({"model": "qwen"} | more, COMPLETION, 400, BAD, words)


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model(stream: bool) -> None:
    body = lake(model="x", stream=stream)
    refused(body, "", 404, MISSING, "The model `x` does not exist.")


def test_a_chat_beyond_the_context() -> None:
    body = lake(messages=[{"role": "user", "content": "湖" * 300}], max_tokens=None)
    refused(body, "", 400, BAD, "tokens in the messages, Please reduce the length of the messages.")


@in_engine()
async def test_fields_that_vllm_does_not_know_pass_unread(url: str) -> None:
    more: Any = {"stream_options": {"include_usage": True}, "tools": [], "user": "u"}
    status, _ = await post(url, lake(**more, response_format={"type": "text"}))
    assert status == 200
