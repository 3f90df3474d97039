"""A streaming OpenAI server for ``load.py``, which notes when it sent each token.

    python benchmarks/load_server.py --ttft 0.05 --itl 0.02

It prints its URL, and ends with its standard input. Its clock is ``time.monotonic()``, which all
processes of a machine share. A request's first token comes ``ttft`` seconds after it, the others
``itl`` seconds apart; each is one write. ``GET /stamps`` returns, and forgets, a record for each
request: ``id`` (its ``x-request-id``), ``received_s``, ``due_s`` of its first token, ``sent_s`` of
each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

MODEL, PROMPT_TOKENS = "qwen", 7


class Stamps:
    """The records of all requests since they were last asked for."""

    def __init__(self, ttft: float, itl: float) -> None:
        self.ttft, self.itl = ttft, itl
        self.records = list[dict[str, Any]]()


class Connection(asyncio.Protocol):
    """One connection: its requests one after the other."""

    def __init__(self, stamps: Stamps) -> None:
        self._stamps, self._buffer, self._timer = stamps, b"", None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        """Send no more tokens."""
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is complete."""
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        length = int(fields.get("content-length", 0))
        if len(rest) >= length:
            self._buffer = rest[length:]
            self._answer(first.split()[1], fields.get("x-request-id", ""), rest[:length])

    def _answer(self, path: str, name: str, body: bytes) -> None:
        if path == "/stamps":
            self._whole({"requests": self._stamps.records})
            self._stamps.records = []
        elif not body:
            self._whole({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        else:
            asked = json.loads(body)
            tokens = asked.get("max_completion_tokens") or asked.get("max_tokens") or 16
            record: dict[str, Any] = {"id": name, "received_s": time.monotonic(), "sent_s": []}
            record["due_s"] = record["received_s"] + self._stamps.ttft
            self._stamps.records.append(record)
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            loop, due = asyncio.get_running_loop(), record["due_s"]
            self._timer = loop.call_at(due, self._token, record["sent_s"], tokens, due)

    def _token(self, sent: list[float], tokens: int, due: float) -> None:
        last = len(sent) + 1 == tokens
        delta = {"role": "assistant", "content": " token"}
        finish = "length" if last else None
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        sent.append(time.monotonic())
        self._transport.write(chunk({"choices": [choice]}))
        if not last:
            due += self._stamps.itl
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(due, self._token, sent, tokens, due)
            return
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens}
        end = chunk({"choices": [], "usage": usage}) + b"e\r\ndata: [DONE]\n\n\r\n"
        self._transport.write(end + b"0\r\n\r\n")

    def _whole(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self._transport.write(f"{head}\r\n\r\n".encode() + body)


def chunk(event: dict[str, Any]) -> bytes:
    """Return an event of the stream, as vLLM sends it, in a chunk of its own."""
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    data = f"data: {json.dumps(common | event, separators=(',', ':'))}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(stamps: Stamps) -> None:
    """Listen until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stamps), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The server of benchmarks/load.py.")
    parser.add_argument("--ttft", type=float, default=0.05)
    parser.add_argument("--itl", type=float, default=0.02)
    given = parser.parse_args()
    asyncio.run(serve(Stamps(given.ttft, given.itl)))
