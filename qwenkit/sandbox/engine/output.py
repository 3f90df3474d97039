"""One answer as it grows: its text, where it ends and why, as vLLM 0.4.1 decides both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwenkit.sandbox.engine.requests import GenerationRequest
from qwenkit.sandbox.engine.sampling import SampledToken
from qwenkit.sandbox.engine.tokenizer import ChatTokenizer, Detokenizer


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer: the text and tokens it adds; the last one has the finish reason."""

    text: str
    tokens: tuple[SampledToken, ...]
    finish_reason: str | None = None
    stop_reason: str | int | None = None


def joined(deltas: Sequence[Delta]) -> Delta:
    """Return a whole answer as one piece."""
    return Delta(
        "".join(delta.text for delta in deltas),
        tuple(token for delta in deltas for token in delta.tokens),
        deltas[-1].finish_reason,
        deltas[-1].stop_reason,
    )


class SequenceOutput:
    """An answer's tokens so far.

    Text that may turn out to begin a stop string is held back, and so are the bytes of an
    incomplete character: text that was sent is never taken back.
    """

    def __init__(self, request: GenerationRequest, tokenizer: ChatTokenizer) -> None:
        self.tokens: list[int] = []
        self._request = request
        self._eos_ids = frozenset() if request.ignore_eos else tokenizer.eos_ids
        self._detokenizer = Detokenizer(tokenizer)
        self._text, self._sent = "", 0
        self._held = max(map(len, request.stop), default=1) - 1

    def push(self, sampled: SampledToken) -> Delta:
        """Add a token; return the text that may be sent now."""
        self.tokens.append(sampled.token)
        new = self._detokenizer.push(sampled.token)
        self._text += new
        finish, stop = self._ending(sampled.token, len(new))
        end = len(self._text) - (0 if finish else self._held)
        text = self._text[self._sent : max(self._sent, end)]
        self._sent += len(text)
        return Delta(text, (sampled,), finish, stop)

    def _ending(self, token: int, new: int) -> tuple[str | None, str | int | None]:
        """Return the finish and stop reasons, with a stop string cut off the text."""
        if token in self._eos_ids:
            return "stop", None
        if token in self._request.stop_token_ids:
            return "stop", token
        for stop in self._request.stop if new else ():
            at = self._text.find(stop, max(0, len(self._text) - new - len(stop) + 1))
            if at >= 0:
                self._text = self._text[:at]
                return "stop", stop
        return ("length" if len(self.tokens) >= self._request.max_tokens else None), None
