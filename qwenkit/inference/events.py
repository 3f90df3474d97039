"""The one reader of streamed answers: server-sent events, and the chat in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

_LONGEST = 2**20  # of one event, in bytes
_MOST_TOKENS = 2**31
_SHOWN = 60
_ODD = (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError)


class BadEvent(Exception):
    """An event that ends the stream. ``kind`` names it, ``str`` is the server's or our message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Piece(NamedTuple):
    """A text that one event brought: of the answer, or of the reasoning before it."""

    text: str
    is_reasoning: bool


class EventReader:
    """Splits the bytes of a stream into the data of its events, as WHATWG's standard says.

    Lines end with CR, LF or both; ``data:`` may lack the space; several ``data`` lines are one
    text; comments and other fields are passed over. An event without the empty line that ends it
    is incomplete, as in the standard.
    """

    def __init__(self) -> None:
        self._rest, self._began = b"", False
        self._data: list[bytes] = []

    @property
    def waiting(self) -> bool:
        """Whether the bytes so far end inside an event."""
        return bool(self._rest or self._data)

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
            if not line and self._data:
                yield b"\n".join(self._data)
                self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif line == b"data":
                self._data.append(b"")


class ChatReader:
    """Reads a chat's chunks: its pieces, token counts and why it ended.

    ``tokens`` is the server's count, else the number of pieces: a piece may have several tokens.
    ``finish`` is empty as long as the answer is incomplete; ``strange`` is its start until an event
    has come.
    """

    def __init__(self) -> None:
        self.finish, self.strange = "", b""
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
        """Tokens of the reasoning."""
        return self._reasoning_tokens or self.reasoning_pieces

    def feed(self, data: bytes) -> list[Piece]:
        """Return the pieces that these bytes complete.

        Raises:
            BadEvent: an error of the server as an event, or an event that is no chunk of a chat.
        """
        found = []
        if not self._seen:
            self.strange = (self.strange + data)[:_SHOWN]
        self._unread += len(data)
        for event in self._events.feed(data):
            self._seen, self._unread, self.strange = True, 0, b""
            if event == b"[DONE]":
                continue
            try:
                piece = self._chunk(json.loads(event.decode()))
            except _ODD as error:
                shown = event[:100].decode(errors="replace")
                why = f"{type(error).__name__}: {str(error)[:100]}, in the event {shown}"
                raise BadEvent("not an answer", f"its answer cannot be read: {why}") from None
            if piece is not None:
                self.pieces += 1
                self.reasoning_pieces += piece.is_reasoning
                found.append(piece)
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

    def _chunk(self, chunk: Any) -> Piece | None:
        if chunk.get("error") or chunk.get("object") == "error":
            raise BadEvent("error in stream", _message(chunk))
        if usage := chunk.get("usage"):
            self.prompt_tokens = _count(usage, "prompt_tokens")
            self._tokens = _count(usage, "completion_tokens")
            details = usage.get("completion_tokens_details") or {}
            self._reasoning_tokens = _count(details, "reasoning_tokens")
        choices = chunk["choices"]
        if not isinstance(choices, list):
            raise TypeError(f"choices is {json.dumps(choices)[:40]}, not a list")
        if not choices:  # the last chunk may have only the usage
            return None
        self.finish = str(choices[0].get("finish_reason") or self.finish)
        delta = choices[0].get("delta") or {}
        # The first delta of a chat has only the role, and is not a token.
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        text = delta.get("content") or reasoning
        if text is not None and not isinstance(text, str):
            raise TypeError(f"the delta's text is a {type(text).__name__}")
        return Piece(text, not delta.get("content")) if text else None


def _count(usage: dict[str, Any], name: str) -> int:
    count = float(usage.get(name) or 0)
    if not 0 <= count < _MOST_TOKENS:
        raise ValueError(f"{name} is {count:g}")
    return int(count)


def _message(chunk: dict[str, Any]) -> str:
    inner = chunk.get("error")
    source = inner if isinstance(inner, dict) else chunk
    return str(source.get("message") or inner or "it gave no message")
