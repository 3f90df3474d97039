"""A server of raw bytes for tests: its answers may be anything, and end anywhere."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qwenkit.capacity.simulation.traffic import Arrival, OpenLoop
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import start_load
from qwenkit.inference.results import LoadRequest

ONCE = OpenLoop((Arrival(0.0, 20, 8),))


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"


class Raw(socketserver.BaseRequestHandler):
    """Answers each request with the next of the server's answers, the last one again."""

    def handle(self) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += self.request.recv(65536)
        head, _, body = asked.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: (\d+)", head)
        length = int(found[1]) if found else 0
        while len(body) < length:
            body += self.request.recv(65536)
        self.server.bodies.append(json.loads(body or b"null"))
        place = min(len(self.server.bodies), len(self.server.answers)) - 1
        self.request.sendall(self.server.answers[place])


class Closing(Raw):
    """Closes the connection when a second request comes, which it does not answer."""

    def handle(self) -> None:
        super().handle()
        self.request.recv(65536)


@contextmanager
def answering(*answers: bytes, by: type[Raw] = Raw) -> Iterator[Server]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), by) as listening:
        listening.daemon_threads = True
        listening.answers, listening.bodies = answers, []
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        server = Server(f"http://127.0.0.1:{listening.server_address[1]}", "h", model="qwen")
        server.asked = listening.bodies
        try:
            yield server
        finally:
            server.close()
            listening.shutdown()
            thread.join()


def stream(*parts: bytes, headers: bytes = b"", end: bool = True) -> bytes:
    """A streamed answer of parts, a chunk each; without ``end`` the connection is lost."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return HEAD + headers + b"Connection: close\r\n\r\n" + chunks + b"0\r\n\r\n" * end


def refusal(status: str, body: bytes = b"", headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + headers + length + body


def event(delta: dict[str, object], finish: str | None = None, **more: object) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def say(text: str, finish: str | None = None, **more: object) -> bytes:
    return event({"content": text}, finish, **more)


def counts(tokens: int, **details: int) -> bytes:
    usage = {"prompt_tokens": 20, "completion_tokens": tokens}
    if details:
        usage["completion_tokens_details"] = details
    return b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
ROLE = event({"role": "assistant"})
PLAIN = (ROLE, say("west "), say("lake", "stop"), counts(2), DONE)


def loaded(server: Server) -> tuple[LoadRequest, str]:
    """The one request of a load, and what is said of its failure."""
    result = start_load(server, ONCE).result()
    summary = result.summary()
    assert summary["requests"] == summary["ok"] + summary["failed"] + summary["cancelled"] == 1
    return result.requests[0], " ".join(result.causes.values())
