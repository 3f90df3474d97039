"""What the server answered: a whole answer read from its JSON, or the times of a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from qwenkit.capacity.simulation.clock import clock_note, on_gpu
from qwenkit.inference.events import (
    BadEvent,
    as_text,
    not_an_answer,
    require_not_given_up,
    told_error,
)
from qwenkit.language import Shown

# What reading an answer raises that is JSON of another form, or none.
ODD = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class Answer:
    """A whole answer; ``raw`` is its JSON, ``usage`` its token counts.

    ``reasoning`` is what a reasoning model thought before the text; ``clock`` is how many times
    faster than the GPU that it models the server runs, 1 on a real one.
    """

    text: str
    reasoning: str
    finish_reason: str
    usage: dict[str, int]
    raw: dict[str, Any]
    seconds: float
    clock: float


@dataclass(frozen=True, repr=False)
class StreamStats(Shown):
    """Times of a streamed answer: to the first token, and between the later ones.

    ``tokens`` includes those of the reasoning; ``clock`` is that of ``Answer``.
    """

    ttft_s: float
    tpot_s: float
    tokens: int
    reasoning_tokens: int
    seconds: float
    finish_reason: str
    clock: float

    def __str__(self) -> str:
        line = f"TTFT {on_gpu(self.ttft_s, self.clock)}"
        if self.tokens > 1:
            line += f", TPOT {on_gpu(self.tpot_s, self.clock)}, {self.tokens} tokens"
        return "\n".join(filter(None, [line, clock_note(self.clock)]))


def read_answer(data: bytes, seconds: float, clock: float) -> Answer:
    """Read an answer's JSON; what is none raises ``BadEvent`` or an error of ``ODD``."""
    try:
        raw = json.loads(data)
    except ValueError:
        raise not_an_answer(data, "JSON") from None
    if (said := told_error(raw)) is not None:
        raise BadEvent("error in stream", said)
    choice = raw["choices"][0]
    message, usage = choice["message"], dict(raw.get("usage") or {})
    finish = str(choice.get("finish_reason") or "")
    require_not_given_up(finish, usage.get("completion_tokens") or 0)
    return Answer(
        text=as_text(message.get("content")),
        reasoning=as_text(message.get("reasoning_content") or message.get("reasoning")),
        finish_reason=finish,
        usage=usage,
        raw=raw,
        seconds=seconds,
        clock=clock,
    )
