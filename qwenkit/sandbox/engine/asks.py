"""What a request asks for: its prompts in tokens, its limits, vLLM 0.4.1's words of refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwenkit.sandbox.engine.bodies import Body, ChatBody, CompletionBody, refused
from qwenkit.sandbox.engine.sampling import Sampling
from qwenkit.sandbox.engine.text import Text

_MOST_ANSWERS = 128
_ABSENT = (
    "use_beam_search",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "response_format",
)
_NOTHING = (None, False, {"type": "text"})
# OpenAI's bound for a bias; beyond it vLLM clamps.
_BIAS = 100.0
_GREEDY = 1e-5


@dataclass(frozen=True)
class Served:
    """What requests are read against."""

    text: Text
    vocab_size: int
    max_model_len: int
    max_logprobs: int
    response_role: str


@dataclass(frozen=True)
class Prompt:
    """A prompt's tokens, and the words that come before the answer when asked to echo."""

    tokens: tuple[int, ...]
    echo: str = ""


@dataclass(frozen=True)
class Ask:
    """A request that may run."""

    chat: bool
    prompts: tuple[Prompt, ...]
    """One; several only for completions."""
    role: str
    n: int
    sequences: int
    """How many answers to each prompt are computed, of which the best ``n`` are given."""
    stream: bool
    sampling: Sampling
    max_tokens: int
    stop: tuple[str, ...]
    include_stop: bool
    skip_special_tokens: bool
    logprobs: int | None
    echo: bool
    prompt_only: bool
    """Whether only the echo is wanted: a completion with ``max_tokens`` of 0."""


def chat(body: ChatBody, served: Served) -> Ask:
    """Read a chat.

    Raises:
        InvalidValue: a value is out of range, the template refuses the messages, or the sequence
            would be too long.
    """
    if body.logprobs and not body.top_logprobs:
        raise refused("Top logprobs must be set when logprobs is.")
    asked = body.add_generation_prompt
    tokens = served.text.chat(body.messages, add_generation_prompt=asked)
    last = body.messages[-1] if body.messages else {}
    role = served.response_role if asked else last.get("role", "")
    echo = last.get("content", "") if body.echo and last.get("role") == role else ""
    logprobs = body.top_logprobs if body.logprobs else None
    return _ask(body, served, [Prompt(tuple(tokens), echo)], role=role, logprobs=logprobs)


def completion(body: CompletionBody, served: Served) -> Ask:
    """Read a completion.

    Raises:
        InvalidValue: as for ``chat``.
    """
    if body.suffix is not None:
        raise refused("suffix is not currently supported")
    prompts = [_prompt(one, body, served) for one in _prompts(body.prompt)]
    return _ask(body, served, prompts, role="", logprobs=body.logprobs)


def _prompts(prompt: str | Sequence[Any]) -> Sequence[str | Sequence[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise refused("please provide at least one prompt")
    return [prompt] if isinstance(prompt[0], int) else prompt


def _prompt(prompt: str | Sequence[int], body: Body, served: Served) -> Prompt:
    words = prompt if isinstance(prompt, str) else None
    tokens = served.text.encode(prompt) if isinstance(prompt, str) else prompt
    _check_tokens("prompt", tokens, served)
    if not body.echo:
        return Prompt(tuple(tokens))
    return Prompt(tuple(tokens), served.text.decode(tokens) if words is None else words)


def _ask(
    body: Body, served: Served, prompts: Sequence[Prompt], *, role: str, logprobs: int | None
) -> Ask:
    prompt_only = isinstance(body, CompletionBody) and body.echo and body.max_tokens == 0
    wanted = 1 if prompt_only else body.max_tokens
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
    _check_length(prompts, wanted, served.max_model_len)
    _check_range(body, wanted)
    _check_support(body, stop, logprobs, served)
    return Ask(
        chat=isinstance(body, ChatBody),
        prompts=tuple(prompts),
        role=role,
        n=body.n,
        sequences=body.sequences,
        stream=body.stream,
        sampling=_sampling(body, served),
        max_tokens=_rest(prompts, served.max_model_len) if wanted is None else wanted,
        stop=stop,
        include_stop=body.include_stop_str_in_output,
        skip_special_tokens=body.skip_special_tokens,
        logprobs=logprobs,
        echo=body.echo,
        prompt_only=prompt_only,
    )


def _rest(prompts: Sequence[Prompt], limit: int) -> int:
    return limit - max(len(one.tokens) for one in prompts)


def _sampling(body: Body, served: Served) -> Sampling:
    _check_tokens("stop_token_ids", body.stop_token_ids, served)
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        seed=body.seed,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        logit_bias=_bias(body.logit_bias or {}, served),
        min_tokens=body.min_tokens,
        stop_token_ids=tuple(body.stop_token_ids),
        ignore_eos=body.ignore_eos,
    )


def _bias(stated: Mapping[str, float], served: Served) -> dict[int, float]:
    try:
        bias = {int(token): max(-_BIAS, min(_BIAS, value)) for token, value in stated.items()}
    except ValueError as error:
        raise refused(f"logit_bias must be by token ids: {error}") from error
    _check_tokens("logit_bias", tuple(bias), served)
    return bias


def _check_tokens(name: str, tokens: Sequence[int], served: Served) -> None:
    wrong = next((token for token in tokens if not 0 <= token < served.vocab_size), None)
    if wrong is not None:
        raise refused(f"{name}: token id {wrong} is not in [0, {served.vocab_size}).")


def _check_range(body: Body, max_tokens: int | None) -> None:
    """Refuse what vLLM's ``SamplingParams`` refuse, in their order."""

    def check(holds: bool, rule: str) -> None:
        if not holds:
            raise refused(rule)

    n, best = body.n, body.sequences
    penalties = {name: getattr(body, name) for name in ("presence_penalty", "frequency_penalty")}
    repetition, least = body.repetition_penalty, body.min_tokens
    check(n >= 1, f"n must be at least 1, got {n}.")
    check(best >= n, f"best_of must be greater than or equal to n, got n={n} and best_of={best}.")
    for name, value in penalties.items():
        check(-2.0 <= value <= 2.0, f"{name} must be in [-2, 2], got {value}.")
    check(0.0 < repetition <= 2.0, f"repetition_penalty must be in (0, 2], got {repetition}.")
    check(body.temperature >= 0, f"temperature must be non-negative, got {body.temperature}.")
    check(0.0 < body.top_p <= 1.0, f"top_p must be in (0, 1], got {body.top_p}.")
    check(
        body.top_k == -1 or body.top_k >= 1,
        f"top_k must be -1 (disable), or at least 1, got {body.top_k}.",
    )
    check(0.0 <= body.min_p <= 1.0, f"min_p must be in [0, 1], got {body.min_p}.")
    check(least >= 0, f"min_tokens must be greater than or equal to 0, got {least}.")
    if max_tokens is not None:
        check(max_tokens >= 1, f"max_tokens must be at least 1, got {max_tokens}.")
        check(
            least <= max_tokens,
            f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {least}.",
        )
    check(
        best == 1 or body.temperature >= _GREEDY,
        f"best_of must be 1 when using greedy sampling.Got {best}.",
    )


def _check_support(body: Body, stop: Sequence[str], logprobs: int | None, served: Served) -> None:
    if logprobs is not None and logprobs < 0:
        raise refused(f"logprobs must be non-negative, got {logprobs}.")
    if logprobs is not None and logprobs > served.max_logprobs:
        raise refused(f"Cannot request more than {served.max_logprobs} logprobs.")
    if not all(stop):
        raise refused("stop cannot contain an empty string.")
    if body.sequences > _MOST_ANSWERS:
        raise refused(f"n and best_of must be at most {_MOST_ANSWERS} in the sandbox's engine.")
    for name in _ABSENT:
        if (body.model_extra or {}).get(name) not in _NOTHING:
            raise refused(f"{name} is not supported by the sandbox's engine; vLLM has it.")


def _check_length(prompts: Sequence[Prompt], wanted: int | None, limit: int) -> None:
    begin = f"This model's maximum context length is {limit} tokens. However, you requested "
    for prompt in prompts:
        count = len(prompt.tokens)
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
