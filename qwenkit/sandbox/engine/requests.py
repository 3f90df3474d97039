"""Which requests the engine accepts: prompts in tokens, limits, vLLM 0.4.1's error messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qwenkit.sandbox.engine.bodies import ChatBody, CompletionBody, RequestBody, refused
from qwenkit.sandbox.engine.sampling import SamplingParams
from qwenkit.sandbox.engine.tokenizer import ChatTokenizer

_MAX_N = 128
_MOST_ANSWERS = 1024
_GREEDY = 1e-5
# Fields of vLLM 0.4.1 that this engine does not have, with the value that changes nothing.
_UNSUPPORTED: dict[str, Any] = {
    "use_beam_search": False,
    "echo": False,
    "logit_bias": {},
    "min_p": 0,
    "min_tokens": 0,
    "include_stop_str_in_output": False,
    "skip_special_tokens": True,
    "add_generation_prompt": True,
    "guided_json": None,
    "guided_regex": None,
    "guided_choice": None,
    "guided_grammar": None,
    "response_format": {"type": "text"},
}


@dataclass(frozen=True)
class ServedModel:
    """The model that requests are checked against."""

    tokenizer: ChatTokenizer
    vocab_size: int
    max_model_len: int
    max_logprobs: int
    newer: bool = False
    """Whether the release is newer than 0.4.1."""


@dataclass(frozen=True)
class GenerationRequest:
    """A request that passed every check."""

    chat: bool
    prompts: tuple[Sequence[int], ...]
    """The tokens of each prompt; a chat has one."""
    n: int
    stream: bool
    sampling: SamplingParams
    max_tokens: int
    stop: tuple[str, ...]
    ignore_eos: bool
    logprobs: int | None
    stop_token_ids: frozenset[int] = frozenset()
    include_usage: bool = False
    """Whether a stream's last chunk should have it: a newer release's ``stream_options``."""


def chat(body: ChatBody, served: ServedModel) -> GenerationRequest:
    """Check a chat.

    Raises:
        InvalidValue: a value is out of range, the template refuses the messages, or the sequence
            would be too long.
    """
    if body.logprobs and not body.top_logprobs:
        raise refused("Top logprobs must be set when logprobs is.")
    variables = (body.model_extra or {}).get("chat_template_kwargs")
    if not isinstance(variables, dict | None):
        raise refused("chat_template_kwargs must be an object")
    prompt = served.tokenizer.chat(body.messages, variables)
    return _checked(body, served, [prompt], body.top_logprobs if body.logprobs else None)


def completion(body: CompletionBody, served: ServedModel) -> GenerationRequest:
    """Check a completion.

    Raises:
        InvalidValue: as for ``chat``.
    """
    if (body.model_extra or {}).get("suffix") is not None:
        raise refused("suffix is not currently supported")
    prompts = [_tokens(one, served) for one in _prompts(body.prompt)]
    return _checked(body, served, prompts, body.logprobs)


def _prompts(prompt: str | Sequence[Any]) -> Sequence[str | Sequence[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise refused("please provide at least one prompt")
    return [prompt] if isinstance(prompt[0], int) else prompt


def _tokens(prompt: str | Sequence[int], served: ServedModel) -> Sequence[int]:
    if isinstance(prompt, str):
        return served.tokenizer.encode(prompt)
    for token in prompt:
        if not 0 <= token < served.vocab_size:
            raise refused(f"prompt: token id {token} is not in [0, {served.vocab_size}).")
    return prompt


def _checked(
    body: RequestBody, served: ServedModel, prompts: Sequence[Sequence[int]], logprobs: int | None
) -> GenerationRequest:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
    if served.newer and body.max_completion_tokens is not None:
        body = body.model_copy(update={"max_tokens": body.max_completion_tokens})
    _check_support(body)
    _check_length(prompts, body.max_tokens, served.max_model_len)
    _check_range(body)
    _check_stop_and_logprobs(stop, logprobs, served)
    if len(prompts) * body.n > _MOST_ANSWERS:
        raise refused(f"at most {_MOST_ANSWERS} answers to a request in the sandbox's engine")
    rest = served.max_model_len - max(map(len, prompts))
    return GenerationRequest(
        chat=isinstance(body, ChatBody),
        prompts=tuple(prompts),
        n=body.n,
        stream=body.stream,
        sampling=SamplingParams(
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            seed=body.seed,
            presence_penalty=body.presence_penalty,
            frequency_penalty=body.frequency_penalty,
            repetition_penalty=body.repetition_penalty,
        ),
        max_tokens=rest if body.max_tokens is None else body.max_tokens,
        stop=stop,
        ignore_eos=body.ignore_eos,
        logprobs=logprobs,
        stop_token_ids=frozenset(body.stop_token_ids),
        include_usage=body.stream_options.get("include_usage") is True,
    )


def _check_range(body: RequestBody) -> None:
    """Refuse what vLLM's ``SamplingParams`` refuse, in their order."""

    def check(holds: bool, rule: str) -> None:
        if not holds:
            raise refused(rule)

    check(body.n >= 1, f"n must be at least 1, got {body.n}.")
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(body, name)
        check(-2.0 <= value <= 2.0, f"{name} must be in [-2, 2], got {value}.")
    repetition = body.repetition_penalty
    check(0.0 < repetition <= 2.0, f"repetition_penalty must be in (0, 2], got {repetition}.")
    check(body.temperature >= 0, f"temperature must be non-negative, got {body.temperature}.")
    check(0.0 < body.top_p <= 1.0, f"top_p must be in (0, 1], got {body.top_p}.")
    check(
        body.top_k == -1 or body.top_k >= 1,
        f"top_k must be -1 (disable), or at least 1, got {body.top_k}.",
    )
    if body.max_tokens is not None:
        check(body.max_tokens >= 1, f"max_tokens must be at least 1, got {body.max_tokens}.")
    check(
        body.n == 1 or body.temperature >= _GREEDY,
        f"best_of must be 1 when using greedy sampling.Got {body.n}.",
    )


def _check_stop_and_logprobs(
    stop: Sequence[str], logprobs: int | None, served: ServedModel
) -> None:
    if logprobs is not None and logprobs < 0:
        raise refused(f"logprobs must be non-negative, got {logprobs}.")
    if logprobs is not None and logprobs > served.max_logprobs:
        raise refused(f"Cannot request more than {served.max_logprobs} logprobs.")
    if not all(stop):
        raise refused("stop cannot contain an empty string.")


def _check_support(body: RequestBody) -> None:
    """Refuse what vLLM has and this engine does not."""
    for name, neutral in (_UNSUPPORTED | {"best_of": body.n}).items():
        if (body.model_extra or {}).get(name) not in (None, neutral):
            raise refused(f"{name} is not supported by the sandbox's engine; vLLM has it.")
    if body.n > _MAX_N:
        raise refused(f"n must be at most {_MAX_N} in the sandbox's engine.")


def _check_length(prompts: Sequence[Sequence[int]], wanted: int | None, limit: int) -> None:
    begin = f"This model's maximum context length is {limit} tokens. However, you requested "
    for count in map(len, prompts):
        if not count:
            raise refused("the prompt has no tokens; the sandbox's engine needs one at least.")
        if wanted is None and count >= limit:
            raise refused(
                f"{begin}{count} tokens in the messages, Please reduce the length of the messages."
            )
        if wanted is not None and count + wanted > limit:
            raise refused(
                f"{begin}{count + wanted} tokens ({count} in the messages, {wanted} in the "
                "completion). Please reduce the length of the messages or completion."
            )
