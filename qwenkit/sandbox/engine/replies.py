"""What the engine says: the cut of an answer, and vLLM 0.4.1's JSON around it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from qwenkit.sandbox.engine.asks import Ask

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """One choice: the text that each token adds, and why it ends."""

    pieces: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        """Return the whole text."""
        return "".join(self.pieces)


def cut(known: Sequence[str], ask: Ask) -> Answer:
    """Return what of the model's answer ``ask`` lets through.

    The end-of-text token counts: an answer that stops by itself is one token longer than its
    words.
    """
    if ask.ignore_eos:
        pieces = tuple(islice(cycle(known), ask.max_tokens))
    elif len(known) < ask.min_tokens:
        pieces = (*islice(cycle(known), min(ask.min_tokens, ask.max_tokens)), "")
    else:
        pieces = (*known, "")
    ended = len(pieces) <= ask.max_tokens and not ask.ignore_eos
    answer = Answer(pieces[: ask.max_tokens], "stop" if ended else "length")
    return _stopped(answer, ask.stop)


def _stopped(answer: Answer, stop: Sequence[str]) -> Answer:
    """Return ``answer`` ended before the first stop string."""
    found = [(answer.text.find(one), one) for one in stop if one and one in answer.text]
    if not found:
        return answer
    at, which = min(found)
    pieces: list[str] = []
    end = 0
    for piece in answer.pieces:
        pieces.append(piece[: max(0, at - end)])
        end += len(piece)
        if end >= at + len(which):
            break
    return Answer(tuple(pieces), "stop", which)


@dataclass(frozen=True)
class Reply:
    """The JSON of one request's answer, whole or in chunks."""

    model: str
    chat: bool
    role: str
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Answer], prompt_tokens: int, echoes: Sequence[str]) -> Json:
        """Return the answer to a request that does not stream."""
        pairs = enumerate(zip(answers, echoes, strict=True))
        choices = [self._choice(index, *pair) for index, pair in pairs]
        made = sum(len(answer.pieces) for answer in answers)
        name = "chat.completion" if self.chat else "text_completion"
        return self._frame(name, choices) | {"usage": usage(prompt_tokens, made)}

    def first(self, index: int) -> Json:
        """Return the chunk that opens a choice of a chat."""
        delta = {"role": self.role}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._frame("chat.completion.chunk", [choice])

    def piece(self, index: int, text: str) -> Json:
        """Return the chunk of one token."""
        if self.chat:
            choice: Json = {"index": index, "delta": {"content": text}, "logprobs": None}
            return self._frame("chat.completion.chunk", [choice | {"finish_reason": None}])
        choice = {"index": index, "text": text, "logprobs": None}
        return self._frame(
            "text_completion", [choice | {"finish_reason": None, "stop_reason": None}]
        )

    def last(self, index: int, answer: Answer, text: str, prompt_tokens: int) -> Json:
        """Return the chunk that ends a choice, with its usage."""
        end: Json = {"finish_reason": answer.finish_reason}
        if answer.stop_reason is not None or not self.chat:
            end["stop_reason"] = answer.stop_reason
        counts = {"usage": usage(prompt_tokens, len(answer.pieces))}
        if self.chat:
            choice: Json = {"index": index, "delta": {"content": text}}
            return self._frame("chat.completion.chunk", [choice | end]) | counts
        choice = {"index": index, "text": text, "logprobs": None}
        return self._frame("text_completion", [choice | end]) | counts

    def _choice(self, index: int, answer: Answer, echo: str) -> Json:
        said: Json = {"text": echo + answer.text}
        if self.chat:
            said = {"message": {"role": self.role, "content": answer.text}}
        return {
            "index": index,
            **said,
            "logprobs": None,
            "finish_reason": answer.finish_reason,
            "stop_reason": answer.stop_reason,
        }

    def _frame(self, name: str, choices: list[Json]) -> Json:
        frame: Json = {"id": self.id, "object": name, "created": self.created}
        return frame | {"model": self.model, "choices": choices}


def usage(prompt: int, made: int) -> Json:
    """Return the token counts in vLLM's order."""
    return {"prompt_tokens": prompt, "total_tokens": prompt + made, "completion_tokens": made}


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
