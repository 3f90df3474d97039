"""Read a request's JSON as vLLM 0.4.1 does: its fields, its limits, its words of refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.engine import tokens

_NUMBER = (int, float)
_MOST_ANSWERS = 128
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "model": ((str,), "Input should be a valid string"),
    "max_tokens": ((int,), "Input should be a valid integer"),
    "min_tokens": ((int,), "Input should be a valid integer"),
    "n": ((int,), "Input should be a valid integer"),
    "seed": ((int,), "Input should be a valid integer"),
    "top_k": ((int,), "Input should be a valid integer"),
    "temperature": (_NUMBER, "Input should be a valid number"),
    "top_p": (_NUMBER, "Input should be a valid number"),
    "min_p": (_NUMBER, "Input should be a valid number"),
    "presence_penalty": (_NUMBER, "Input should be a valid number"),
    "frequency_penalty": (_NUMBER, "Input should be a valid number"),
    "repetition_penalty": (_NUMBER, "Input should be a valid number"),
    "stream": ((bool,), "Input should be a valid boolean"),
    "ignore_eos": ((bool,), "Input should be a valid boolean"),
    "echo": ((bool,), "Input should be a valid boolean"),
}


@dataclass(frozen=True)
class Ask:
    """A request that may run."""

    model: str
    prompts: tuple[tuple[str, int], ...]
    """What is asked and the prompt's tokens; one each, several only for completions."""
    chat: bool
    max_tokens: int
    min_tokens: int
    n: int
    stream: bool
    stop: tuple[str, ...]
    ignore_eos: bool
    echo: bool


def refused(message: str) -> InvalidValue:
    """Return the refusal that vLLM answers with 400; ``rule`` is its message."""
    return InvalidValue("request", None, message)


def parse(raw: bytes) -> dict[str, Any]:
    """Return a request's JSON object.

    Raises:
        InvalidValue: it is none.
    """
    try:
        body = json.loads(raw)
        json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair cannot be answered
    except (ValueError, RecursionError) as error:
        at = getattr(error, "pos", 0)
        why = {"error": getattr(error, "msg", "JSON decode error")}
        raise _invalid("json_invalid", ("body", at), "JSON decode error", {}, ctx=why) from error
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise _invalid("model_attributes_type", ("body",), message, body)
    return body


def chat(body: Mapping[str, Any], *, limit: int) -> Ask:
    """Read a chat request; ``limit`` is the model's longest sequence.

    Raises:
        InvalidValue: a field is missing, wrong or out of range, or the sequence would be too long.
    """
    _check(body, ("messages", "model"))
    contents = _contents(body["messages"])
    count = tokens.count_chat(contents)
    users = [
        text
        for message, text in zip(body["messages"], contents, strict=True)
        if message["role"] == "user"
    ]
    prompt = (users[-1] if users else "", count)
    return _ask(body, (prompt,), chat=True, limit=limit, default_max=None)


def completion(body: Mapping[str, Any], *, limit: int) -> Ask:
    """Read a completion request; ``limit`` is the model's longest sequence.

    Raises:
        InvalidValue: as for ``chat``.
    """
    _check(body, ("model", "prompt"))
    prompts = tuple(_prompts(body["prompt"]))
    return _ask(body, prompts, chat=False, limit=limit, default_max=16)


def _ask(
    body: Mapping[str, Any],
    prompts: tuple[tuple[str, int], ...],
    *,
    chat: bool,
    limit: int,
    default_max: int | None,
) -> Ask:
    wanted = body.get("max_tokens")
    wanted = default_max if wanted is None else wanted
    _check_ranges(body, wanted)
    longest = max(count for _, count in prompts)
    _check_length(longest, wanted, limit, "messages" if chat else "prompt")
    stop = body.get("stop") or ()
    return Ask(
        model=body["model"],
        prompts=prompts,
        chat=chat,
        max_tokens=limit - longest if wanted is None else wanted,
        min_tokens=body.get("min_tokens") or 0,
        n=_or(body, "n", 1),
        stream=bool(body.get("stream")),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        ignore_eos=bool(body.get("ignore_eos")),
        echo=bool(body.get("echo")),
    )


def _check(body: Mapping[str, Any], required: Sequence[str]) -> None:
    for name in required:
        if name not in body:
            raise _invalid("missing", ("body", name), "Field required", dict(body))
    for name, (kinds, message) in _TYPES.items():
        value = body.get(name)
        if value is None and name != "model":
            continue
        # In Python a bool is an int; in JSON it is not.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise _invalid("type_error", ("body", name), message, value)
    stop = body.get("stop")
    texts = isinstance(stop, list) and all(isinstance(one, str) for one in stop)
    if not (stop is None or isinstance(stop, str) or texts):
        raise _invalid("string_type", ("body", "stop"), "Input should be a valid string", stop)
    for name in ("logprobs", "best_of", "logit_bias", "guided_json", "guided_regex", "tools"):
        if body.get(name) not in (None, False, 0, [], {}):
            raise refused(f"{name} is not supported by the sandbox's engine; vLLM has it.")


def _contents(messages: object) -> list[str]:
    if not isinstance(messages, list) or not messages:
        raise _invalid("list_type", ("body", "messages"), "Input should be a valid list", messages)
    contents = []
    for number, message in enumerate(messages):
        where = ("body", "messages", number)
        if not isinstance(message, dict):
            raise _invalid("dict_type", where, "Input should be a valid dictionary", message)
        for name in ("role", "content"):
            if name not in message:
                raise _invalid("missing", (*where, name), "Field required", message)
        contents.append(_text(message["content"], where))
    return contents


def _text(content: object, where: tuple[str | int, ...]) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return "\n".join(part["text"] for part in content)
    raise _invalid("string_type", (*where, "content"), "Input should be a valid string", content)


def _prompts(prompt: object) -> list[tuple[str, int]]:
    if isinstance(prompt, str):
        return [(prompt, tokens.count(prompt))]
    if isinstance(prompt, list) and prompt:
        if all(isinstance(one, int) for one in prompt):
            return [("", len(prompt))]
        return [pair for one in prompt for pair in _prompts(one)]
    raise refused("prompt must be a string, array of strings, array of tokens, or array of arrays")


def _check_ranges(body: Mapping[str, Any], max_tokens: int | None) -> None:
    temperature, top_p = _or(body, "temperature", 0.7), _or(body, "top_p", 1.0)
    top_k, min_p = _or(body, "top_k", -1), _or(body, "min_p", 0.0)
    repetition = _or(body, "repetition_penalty", 1.0)
    n = _or(body, "n", 1)
    if n < 1:
        raise refused(f"n must be at least 1, got {n}.")
    if n > _MOST_ANSWERS:
        raise refused(f"n must be at most {_MOST_ANSWERS} in the sandbox's engine, got {n}.")
    for name in ("presence_penalty", "frequency_penalty"):
        value = _or(body, name, 0.0)
        if not -2.0 <= value <= 2.0:
            raise refused(f"{name} must be in [-2, 2], got {value}.")
    if not 0.0 < repetition <= 2.0:
        raise refused(f"repetition_penalty must be in (0, 2], got {repetition}.")
    if temperature < 0.0:
        raise refused(f"temperature must be non-negative, got {temperature}.")
    if not 0.0 < top_p <= 1.0:
        raise refused(f"top_p must be in (0, 1], got {top_p}.")
    if top_k < -1 or top_k == 0:
        raise refused(f"top_k must be -1 (disable), or at least 1, got {top_k}.")
    if not 0.0 <= min_p <= 1.0:
        raise refused(f"min_p must be in [0, 1], got {min_p}.")
    if max_tokens is not None and max_tokens < 1:
        raise refused(f"max_tokens must be at least 1, got {max_tokens}.")


def _check_length(prompt: int, wanted: int | None, limit: int, where: str) -> None:
    begin = f"This model's maximum context length is {limit} tokens. However, you requested "
    if wanted is None and prompt >= limit:
        raise refused(
            f"{begin}{prompt} tokens in the {where}, Please reduce the length of the {where}."
        )
    if wanted is not None and prompt + wanted > limit:
        raise refused(
            f"{begin}{prompt + wanted} tokens ({prompt} in the {where}, {wanted} in the "
            f"completion). Please reduce the length of the {where} or completion."
        )


def _or(body: Mapping[str, Any], name: str, default: Any) -> Any:
    value = body.get(name)
    return default if value is None else value


def _invalid(
    kind: str, where: tuple[str | int, ...], message: str, value: object, **more: object
) -> InvalidValue:
    """Return a refusal in pydantic's words, as FastAPI gives them."""
    return refused(str([{"type": kind, "loc": where, "msg": message, "input": value, **more}]))
