"""The JSON of vLLM's answers, whole or in chunks: 0.4.1's, and what newer releases changed.

The log probabilities of a chat have the form of completions in all of them here.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qwenkit.sandbox.engine.output import Delta
from qwenkit.sandbox.engine.releases import Release
from qwenkit.sandbox.engine.requests import GenerationRequest
from qwenkit.sandbox.engine.sampling import SampledToken
from qwenkit.sandbox.engine.tokenizer import ChatTokenizer

Json = dict[str, Any]
_NESTED_ERRORS = (0, 10, 1)
# JSON has no minus infinity.
_LEAST_LOGPROB = -9999.0


@dataclass(frozen=True)
class ResponseWriter:
    """Builds the JSON of the answer to one request."""

    request: GenerationRequest
    model: str
    role: str
    tokenizer: ChatTokenizer
    newer: bool = False
    number: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def id(self) -> str:
        """The answer's id."""
        return f"{'chat' * (self.newer and self.request.chat)}cmpl-{self.number}"

    def usage(self, generated: int) -> Json:
        """Return the last chunk of a stream, which a newer release sends if it was asked to."""
        frame = self._chunk({})
        return frame | {"choices": [], "usage": _usage(self._prompt_tokens(), generated)}

    def _prompt_tokens(self) -> int:
        return sum(map(len, self.request.prompts))

    def whole(self, answers: Sequence[Delta]) -> Json:
        """Return the answer to a request that does not stream."""
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        generated = sum(len(answer.tokens) for answer in answers)
        name = "chat.completion" if self.request.chat else "text_completion"
        frame = {"id": self.id, "object": name, "created": self.created, "model": self.model}
        return frame | {"choices": choices, "usage": _usage(self._prompt_tokens(), generated)}

    def opening(self, index: int) -> Json:
        """Return the first chunk of a chat's choice: its role."""
        delta = {"role": self.role}
        return self._chunk(
            {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        )

    def chunk(self, index: int, delta: Delta, *, sent: int, prompt: int, generated: int) -> Json:
        """Return the chunk of one step.

        Args:
            index: of the choice.
            delta: what the step adds.
            sent: characters of the choice before it.
            prompt: tokens of the prompt, for the usage in the last chunk.
            generated: tokens of the choice up to here.
        """
        logprobs = self._logprobs(delta.tokens, sent)
        usage = _usage(prompt, generated) if delta.finish_reason and not self.newer else None
        if not self.request.chat:
            choice: Json = {"index": index, "text": delta.text, "logprobs": logprobs}
            chunk = self._chunk(choice | _ending(delta))
            return chunk if self.newer else chunk | {"usage": usage}
        choice = {"index": index, "delta": {"content": delta.text}, "logprobs": logprobs}
        if usage is None:
            ending = _ending(delta) if self.newer else {"finish_reason": None}
            return self._chunk(choice | ending)
        choice |= _ending(delta)
        # vLLM leaves the nulls out of this chunk, and of no other.
        choice = {name: value for name, value in choice.items() if value is not None}
        return self._chunk(choice) | {"usage": usage}

    def _choice(self, index: int, answer: Delta) -> Json:
        content: Json = {"text": answer.text}
        if self.request.chat:
            content = {"message": {"role": self.role, "content": answer.text}}
        logprobs = self._logprobs(answer.tokens, 0)
        return {"index": index, **content, "logprobs": logprobs, **_ending(answer)}

    def _chunk(self, choice: Json) -> Json:
        # As in vLLM 0.4.1, only a chat's chunks have the field "object".
        name = {"object": "chat.completion.chunk"} if self.request.chat else {}
        if self.newer and not name:
            name = {"object": "text_completion"}
        frame: Json = {"id": self.id, **name, "created": self.created, "model": self.model}
        return frame | {"choices": [choice]}

    def _logprobs(self, sampled: Sequence[SampledToken], sent: int) -> Json | None:
        """Return the log probabilities in the form of OpenAI's completions.

        vLLM 0.4.1 gives them to chats in this form too.
        """
        if self.request.logprobs is None:
            return None
        tokens = [self._token(one.token) for one in sampled]
        offsets = [sent]
        for token in tokens[:-1]:
            offsets.append(offsets[-1] + len(token))
        return {
            "text_offset": offsets,
            "token_logprobs": [_number(one.logprob) for one in sampled],
            "tokens": tokens,
            "top_logprobs": [self._top(one) for one in sampled] if self.request.logprobs else None,
        }

    def _top(self, sampled: SampledToken) -> Json:
        """Return the token that was sampled, and the most probable ones."""
        pairs = ((sampled.token, sampled.logprob), *sampled.top)
        return {self._token(token): _number(logprob) for token, logprob in pairs}

    def _token(self, token: int) -> str:
        return self.tokenizer.decode([token], skip_special_tokens=False)


def error(message: str, kind: str, code: int, release: Release) -> Json:
    """Return vLLM's error object."""
    if release.version >= _NESTED_ERRORS:
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def models(names: Sequence[str], root: str, more: Json) -> Json:
    """Return the list of served names; ``more`` are each one's further fields."""
    created = int(time.time())
    cards = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": root,
            "parent": None,
            **more,
            "permission": [_permission(created)],
        }
        for name in names
    ]
    return {"object": "list", "data": cards}


def _number(logprob: float) -> float:
    return max(logprob, _LEAST_LOGPROB)


def _ending(delta: Delta) -> Json:
    return {"finish_reason": delta.finish_reason, "stop_reason": delta.stop_reason}


def _usage(prompt: int, generated: int) -> Json:
    """Return the token counts in vLLM's order."""
    total = prompt + generated
    return {"prompt_tokens": prompt, "total_tokens": total, "completion_tokens": generated}


def _permission(created: int) -> Json:
    return {
        "id": f"modelperm-{uuid.uuid4().hex}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
