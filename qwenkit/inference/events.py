"""The one reader of streamed answers: server-sent events, and the chat in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

_LONGEST = 2**20  # of one event, in bytes
_MOST_TOKENS = 2**31
_SHOWN, _KEPT = 60, 2**12  # bytes of an answer that is no stream
_TYPES = (b"", b"message", b"error")  # events of others, such as a ping, are not the chat's
_GIVEN_UP = ("abort", "error")
_ODD = (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError)


class BadEvent(Exception):
    """What ends a stream too early. ``kind`` names it, ``str`` is the server's or our message.

    ``tokens`` had come, None where that is not known.
    """

    def __init__(self, kind: str, message: str, tokens: int | None = None) -> None:
        super().__init__(message)
        self.kind, self.tokens = kind, tokens


class Piece(NamedTuple):
    """A text that one event brought: of the answer, or of the reasoning before it."""

    text: str
    is_reasoning: bool


class EventReader:
    """Splits the bytes of a stream into the data of its events, as WHATWG's standard says.

    Lines end with CR, LF or both; ``data:`` may lack the space; several ``data`` lines are one
    text; comments, other fields, and events of other types are passed over. An event without the
    empty line that ends it is incomplete, as in the standard.
    """

    def __init__(self) -> None:
        self._rest, self._began, self._type = b"", False, b""
        self._data: list[bytes] = []

    @property
    def waiting(self) -> bool:
        """Whether the bytes so far end inside an event."""
        return bool(self._rest or self._data or self._type)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the data of every event that these bytes complete."""
        data = self._rest + data
        if not self._began:
            if len(data) < 3 and b"\xef\xbb\xbf".startswith(data):
                self._rest = data
                return
            data, self._began = data.removeprefix(b"\xef\xbb\xbf"), True
        if b"\r" in data:
            # The LF of a CR at the very end may be in the next bytes.
            held = b"\r" if data.endswith(b"\r") else b""
            data = data.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            if not line:
                lines_of_data = self._data if self._type in _TYPES else []
                self._data, self._type = [], b""
                if lines_of_data:
                    yield b"\n".join(lines_of_data)
            elif line.startswith(b"event:"):
                self._type = line[6:].strip()
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif line == b"data":
                self._data.append(b"")


class ChatReader:
    """Reads a chat's chunks: its pieces, token counts and why it ended.

    ``tokens`` is the server's count, else the number of pieces: a piece may have several tokens.
    ``finish`` is empty as long as the answer is incomplete.
    """

    def __init__(self) -> None:
        self.finish, self._strange = "", b""
        self.prompt_tokens = self.pieces = self.reasoning_pieces = 0
        self._tokens = self._reasoning_tokens = 0
        self._events = EventReader()
        self._seen, self._unread = False, 0
        # What stands before and after the text in an event that had nothing else to say.
        self._around = b"", b""
        self._around_reasoning = False

    @property
    def tokens(self) -> int:
        """Tokens of the answer, reasoning included."""
        return self._tokens or self.pieces

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the reasoning, where the server does not count them those of its pieces."""
        share = self.reasoning_pieces / max(self.pieces, 1)
        return self._reasoning_tokens or round(self.tokens * share)

    def require_whole(self) -> None:
        """Check that the answer has come to its end.

        Raises:
            BadEvent: it was cut, the server gave it up, or it is none; says what came instead.
        """
        if not self._seen:
            raise not_an_answer(self._strange, "stream of events")
        if not self.finish:
            raise BadEvent(
                "cut", "the server or a proxy ended it without a finish_reason", self.tokens
            )
        require_not_given_up(self.finish, self.tokens)

    def feed(self, data: bytes) -> list[Piece]:
        """Return the pieces that these bytes complete.

        Raises:
            BadEvent: an error of the server as an event, or an event that is no chunk of a chat.
        """
        found: list[Piece] = []
        if not self._seen:
            self._strange = (self._strange + data)[:_KEPT]
        self._unread += len(data)
        for event in self._events.feed(data):
            self._seen, self._unread, self._strange = True, 0, b""
            if event.strip() in (b"", b"[DONE]"):
                continue
            try:
                pieces = self._chunk(json.loads(event.decode()))
            except _ODD as error:
                shown = event[:100].decode(errors="replace")
                why = f"{type(error).__name__}: {str(error)[:100]}, in the event {shown}"
                raise BadEvent("not an answer", f"its answer cannot be read: {why}") from None
            self.pieces += len(pieces)
            self.reasoning_pieces += sum(piece.is_reasoning for piece in pieces)
            found += pieces
        if not self._events.waiting:
            self._unread = 0
        elif self._unread > _LONGEST:
            raise BadEvent("not an answer", f"an event of its answer is over {_LONGEST:,} bytes")
        if len(found) == 1 and not self.finish and not self._tokens and not self._events.waiting:
            self._learn(data, found[0])
        return found

    def recognises(self, data: bytes) -> bool:
        """Return whether these bytes are one event like an earlier one but for its text.

        Most tokens come so, and parsing takes ten times as long. It is counted; do not feed it.
        """
        before, after = self._around
        if not (before and data.startswith(before) and data.endswith(after)):
            return False
        text = data[len(before) : -len(after)]
        if not text or b'"' in text or b"\n" in text or b"\r" in text or text.endswith(b"\\"):
            return False
        if self._events.waiting:
            return False
        self.pieces += 1
        self.reasoning_pieces += self._around_reasoning
        return True

    def _learn(self, data: bytes, piece: Piece) -> None:
        text = json.dumps(piece.text, ensure_ascii=False).encode()
        before, found, after = data.partition(text)
        alone = data.startswith(b"data:") and data.endswith(b"\n\n") and data.count(b"\n") == 2
        if found and alone and text not in after:
            self._around = before + b'"', b'"' + after
            self._around_reasoning = piece.is_reasoning

    def _chunk(self, chunk: Any) -> list[Piece]:
        if (said := told_error(chunk)) is not None:
            raise BadEvent("error in stream", said)
        if usage := chunk.get("usage"):
            self.prompt_tokens = _count(usage, "prompt_tokens")
            self._tokens = _count(usage, "completion_tokens")
            details = usage.get("completion_tokens_details") or {}
            self._reasoning_tokens = _count(details, "reasoning_tokens")
        choices = chunk["choices"]
        if not isinstance(choices, list):
            raise TypeError(f"choices is {json.dumps(choices)[:40]}, not a list")
        if not choices:  # the last chunk may have only the usage
            return []
        self.finish = str(choices[0].get("finish_reason") or self.finish)
        delta = choices[0].get("delta") or {}
        # The first delta of a chat has only the role, and is not a token. One may have both.
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        texts = as_text(reasoning), as_text(delta.get("content"))
        return [Piece(text, at == 0) for at, text in enumerate(texts) if text]


def _count(usage: dict[str, Any], name: str) -> int:
    count = float(usage.get(name) or 0)
    if not 0 <= count < _MOST_TOKENS:
        raise ValueError(f"{name} is {count:g}")
    return int(count)


def told_error(answer: Any) -> str | None:
    """Return the message of an error that an answer or an event is; None if it is none.

    vLLM's older releases say ``{"object": "error", "message": …}``, the newer ones and OpenAI
    ``{"error": {"message": …}}``, and what FastAPI refuses has a ``detail``.
    """
    if not isinstance(answer, dict):
        return None
    inner = answer.get("error")
    bare = "choices" not in answer and {"error", "message", "detail"} & answer.keys()
    if not (inner or bare or answer.get("object") == "error"):
        return None
    source = inner if isinstance(inner, dict) else answer
    return str(source.get("message") or source.get("detail") or inner or "it gave no message")


def require_not_given_up(finish: str, tokens: int) -> None:
    """Raise ``BadEvent`` if the server says that it did not bring an answer to its end."""
    if finish in _GIVEN_UP:
        why = f"the server gave the answer up after {tokens} tokens (finish_reason: {finish})"
        raise BadEvent("given up", why)


def not_an_answer(start: bytes, wanted: str) -> BadEvent:
    """Return the error for an answer that is not ``wanted``, by what it begins with."""
    try:
        said = told_error(json.loads(start))
    except _ODD:
        said = None
    if said is not None:
        return BadEvent("error in stream", said)
    shown = f"no {wanted}, it begins with {start[:_SHOWN].decode(errors='replace')!r}"
    return BadEvent("not an answer", f"its answer is {shown if start else 'empty'}")


def as_text(value: Any) -> str:
    """Return a text of an answer, halves of a character outside the BMP replaced.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(value, str | None):
        raise TypeError(f"the text is a {type(value).__name__}")
    return (value or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
