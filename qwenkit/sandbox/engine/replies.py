"""What the engine says: vLLM 0.4.1's JSON, whole or in chunks."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qwenkit.sandbox.engine.asks import Ask
from qwenkit.sandbox.engine.sampling import Picked
from qwenkit.sandbox.engine.text import Text

Json = dict[str, Any]
# In place of minus infinity, which JSON has not.
_LEAST_LOGPROB = -9999.0


@dataclass(frozen=True)
class Part:
    """Some of an answer: its words and their tokens; the last part says why it ends.

    The token that begins an echoed prompt has no log probability: NaN.
    """

    text: str
    picks: tuple[Picked, ...]
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass(frozen=True)
class Reply:
    """The JSON of one request's answer."""

    ask: Ask
    model: str
    text: Text
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Part], *, made: int) -> Json:
        """Return the answer to a request that does not stream; ``made`` tokens were computed."""
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        prompt = sum(len(one.tokens) for one in self.ask.prompts)
        name = "chat.completion" if self.ask.chat else "text_completion"
        frame = {"id": self.id, "object": name, "created": self.created, "model": self.model}
        return frame | {"choices": choices, "usage": _usage(prompt, made)}

    def opening(self, index: int, delta: Json) -> Json:
        """Return a chunk of a chat that comes before its first token."""
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._chunk(choice)

    def chunk(self, index: int, part: Part, *, said: int, prompt: int, made: int) -> Json:
        """Return the chunk of one step.

        Args:
            index: of the choice.
            part: what the step adds.
            said: characters of the choice before it.
            prompt: tokens of the prompt, for the usage in the last chunk.
            made: tokens of the choice up to here.
        """
        logprobs = self._logprobs(part.picks, said)
        usage = _usage(prompt, made) if part.finish_reason else None
        if not self.ask.chat:
            choice: Json = {"index": index, "text": part.text, "logprobs": logprobs}
            return self._chunk(choice | _ending(part)) | {"usage": usage}
        choice = {"index": index, "delta": {"content": part.text}, "logprobs": logprobs}
        if usage is None:
            return self._chunk(choice | {"finish_reason": None})
        choice |= _ending(part)
        # vLLM leaves the nulls out of this chunk, and of no other.
        choice = {name: value for name, value in choice.items() if value is not None}
        return self._chunk(choice) | {"usage": usage}

    def _choice(self, index: int, answer: Part) -> Json:
        said: Json = {"text": answer.text}
        if self.ask.chat:
            content = self.ask.prompts[0].echo + answer.text
            said = {"message": {"role": self.ask.role, "content": content}}
        logprobs = self._logprobs(answer.picks, 0)
        return {"index": index, **said, "logprobs": logprobs, **_ending(answer)}

    def _chunk(self, choice: Json) -> Json:
        # As in vLLM, only a chat's chunks say what they are.
        name = {"object": "chat.completion.chunk"} if self.ask.chat else {}
        frame: Json = {"id": self.id, **name, "created": self.created, "model": self.model}
        return frame | {"choices": [choice]}

    def _logprobs(self, picks: Sequence[Picked], said: int) -> Json | None:
        """Return the log probabilities in the form of OpenAI's completions.

        vLLM 0.4.1 gives them to chats in this form too.
        """
        if self.ask.logprobs is None:
            return None
        tokens = [self._token(one.token) for one in picks]
        offsets = [said]
        for token in tokens[:-1]:
            offsets.append(offsets[-1] + len(token))
        return {
            "text_offset": offsets,
            "token_logprobs": [_number(one.logprob) for one in picks],
            "tokens": tokens,
            "top_logprobs": [self._top(one) for one in picks] if self.ask.logprobs else None,
        }

    def _top(self, picked: Picked) -> Json | None:
        """Return the token that was taken, and the most probable ones."""
        if math.isnan(picked.logprob):
            return None
        pairs = ((picked.token, picked.logprob), *picked.top)
        return {self._token(token): _number(logprob) for token, logprob in pairs}

    def _token(self, token: int) -> str:
        return self.text.decode([token], skip_special_tokens=False)


def error(message: str, kind: str, code: int) -> Json:
    """Return vLLM's error object."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def models(names: Sequence[str]) -> Json:
    """Return the list of served names."""
    created = int(time.time())
    cards = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": names[0],
            "parent": None,
            "permission": [_permission(created)],
        }
        for name in names
    ]
    return {"object": "list", "data": cards}


def _number(logprob: float) -> float | None:
    return None if math.isnan(logprob) else max(logprob, _LEAST_LOGPROB)


def _ending(part: Part) -> Json:
    return {"finish_reason": part.finish_reason, "stop_reason": part.stop_reason}


def _usage(prompt: int, made: int) -> Json:
    """Return the token counts in vLLM's order."""
    return {"prompt_tokens": prompt, "total_tokens": prompt + made, "completion_tokens": made}


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
