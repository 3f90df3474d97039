"""One answer as it grows: its text, where it ends and why, as vLLM 0.4.1 decides both."""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.sandbox.engine.asks import Ask
from qwenkit.sandbox.engine.sampling import Picked
from qwenkit.sandbox.engine.text import Detokenizer, Text


@dataclass(frozen=True, slots=True)
class Delta:
    """What one token adds to an answer; the last one says why it ends."""

    picked: Picked
    text: str
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class Output:
    """An answer's tokens so far.

    Text that may turn out to begin a stop string is held back, and so are the bytes of a
    character that is not whole yet: what was given is never taken back.
    """

    def __init__(self, ask: Ask, text: Text) -> None:
        self.tokens: list[int] = []
        self._ask, self._eos_ids = ask, text.eos_ids
        self._detokenizer = Detokenizer(text, skip_special_tokens=ask.skip_special_tokens)
        self._text, self._given = "", 0
        longest = max(map(len, ask.stop), default=1)
        self._held = 0 if ask.include_stop else longest - 1

    def push(self, picked: Picked) -> Delta:
        """Add a token; return what may be said of it now."""
        self.tokens.append(picked.token)
        new = self._detokenizer.push(picked.token)
        self._text += new
        finish, stop = self._ending(picked.token, len(new))
        end = len(self._text) - (0 if finish else self._held)
        text = self._text[self._given : max(self._given, end)]
        self._given += len(text)
        return Delta(picked, text, finish, stop)

    def _ending(self, token: int, new: int) -> tuple[str | None, int | str | None]:
        """Return the finish and stop reasons, the text cut accordingly."""
        sampling = self._ask.sampling
        if len(self.tokens) >= sampling.min_tokens:
            if token in self._eos_ids and not sampling.ignore_eos:
                return "stop", None
            if token in sampling.stop_token_ids:
                if not self._ask.include_stop:
                    self._text = self._text[: len(self._text) - new]
                return "stop", token
            stop = self._stop_string(new)
            if stop is not None:
                return "stop", stop
        return ("length" if len(self.tokens) >= self._ask.max_tokens else None), None

    def _stop_string(self, new: int) -> str | None:
        """Return the first stop string of the list that the new text completes, cut off."""
        for stop in self._ask.stop if new else ():
            at = self._text.find(stop, max(0, len(self._text) - new - len(stop) + 1))
            if at >= 0:
                self._text = self._text[: at + len(stop) * self._ask.include_stop]
                return stop
        return None
