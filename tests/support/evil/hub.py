"""A model hub on loopback that answers honestly but at one place.

Answers are raw bytes, because no HTTP library would send most of them.
"""

from __future__ import annotations

import hashlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

KINDS = ("modelscope", "hf")
WEIGHTS = b"\x08\0\0\0\0\0\0\0{}      "  # a safetensors file without tensors


@dataclass
class Exchange:
    """One request, and the connection to answer it on."""

    kind: str
    path: str
    headers: dict[str, str]
    connection: socket.socket
    url: str
    elsewhere: str
    number: int  # of the request to this hub

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.sendall(piece)

    def head(self, status: str = "200 OK", **headers: object) -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{n.replace('_', '-')}: {v}" for n, v in headers.items())]
        self.send("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))

    def answer(self, body: bytes, status: str = "200 OK", **headers: object) -> None:
        self.head(status, **{"Content_Length": len(body), **headers})
        self.send(body)

    def listing(self, *entries: str, **headers: object) -> None:
        """Answer with a listing whose entries are written as JSON by the caller."""
        text = f"[{','.join(entries)}]"
        if self.kind == "modelscope":
            text = f'{{"Code": 200, "Success": true, "Data": {{"Files": {text}}}}}'
        self.answer(text.encode("utf-8", "surrogatepass"), **headers)

    def redirect(self, target: str, status: str = "302 Found") -> None:
        self.answer(b"", status, Location=target)


Answer = Callable[[Exchange], None]


Files = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Evil:
    """One evil: where it is answered, and the errors that may end it."""

    name: str
    place: str  # revision, listing, file or index
    answer: Answer
    errors: tuple[str, ...] = ("TransferError",)
    says: str = ""  # a part of the error's text
    kinds: tuple[str, ...] = KINDS
    slow: bool = False  # takes longer than a test may
    files: Files | Callable[[], Files] = (("model.safetensors", WEIGHTS),)
    limit_s: float | None = None  # of upload_timeout_s

    def __str__(self) -> str:
        return self.name


def entry(kind: str, path: str, size: str, sha256: str = '""', type_: str = "") -> str:
    """Return an entry of a listing; the values are JSON already."""
    if kind == "modelscope":
        type_ = type_ or '"blob"'
        return f'{{"Path":{path},"Type":{type_},"Size":{size},"Sha256":{sha256}}}'
    large = f',"lfs":{{"oid":{sha256},"size":{size}}}' if sha256 != '""' else ""
    return f'{{"type":"file","path":{path},"size":{size}{large}}}'


class EvilHub:
    """A hub of one model ``a/b`` that is evil at one place, and a second server elsewhere."""

    def __init__(self, evil: Evil) -> None:
        self._evil, self._stopped = evil, threading.Event()
        self.leaked: list[str] = []  # tokens that came to the second server
        self._numbers = count(1)
        self._servers = [self._serve(self._handle), self._serve(self._handle_elsewhere)]
        self.url, self.elsewhere = (
            f"http://127.0.0.1:{s.server_address[1]}" for s in self._servers
        )

    def _serve(self, handle: Callable[[socket.socket], None]) -> socketserver.ThreadingTCPServer:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    handle(self.request)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        server.daemon_threads, server.block_on_close, server.request_queue_size = True, False, 64
        server.server_bind()
        server.server_activate()
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _handle(self, connection: socket.socket) -> None:
        connection.settimeout(300)
        if not (request := self._request(connection)):
            return
        path, headers = request
        kind = "hf" if path.startswith(("/api/models/", "/a/b/resolve/")) else "modelscope"
        exchange = Exchange(
            kind, path, headers, connection, self.url, self.elsewhere, next(self._numbers)
        )
        place = next(
            (name for part, name in _PLACES if part in path), "listing" if "?" in path else "file"
        )
        if place == self._evil.place or "evil" in path:
            self._evil.answer(exchange)
        else:
            self._honest(exchange, place)

    def _honest(self, exchange: Exchange, place: str) -> None:
        given = self._evil.files
        files = dict(given() if callable(given) else given)
        if place == "revision":
            exchange.answer(b'{"sha": "c0ffee"}')
        elif place == "listing":
            exchange.listing(
                *(
                    entry(
                        exchange.kind,
                        json.dumps(name),
                        str(len(data)),
                        json.dumps(hashlib.sha256(data).hexdigest()),
                    )
                    for name, data in files.items()
                )
            )
        else:
            name = next(name for name in files if name in exchange.path)
            exchange.answer(files[name])

    def _handle_elsewhere(self, connection: socket.socket) -> None:
        if request := self._request(connection):
            if token := request[1].get("authorization"):
                self.leaked.append(token)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    @staticmethod
    def _request(connection: socket.socket) -> tuple[str, dict[str, str]] | None:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (piece := connection.recv(65536)):
                return None
            data += piece
        first, *lines = data.decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines if ": " in line)
        return first.split(" ")[1], {name.lower(): value for name, _, value in pairs}


_PLACES = (("/revision/", "revision"), ("/tree/", "listing"), ("/repo/files", "listing"))
_PLACES += (("/resolve/", "file"), ("FilePath=", "file"))


@contextmanager
def evil_hub(evil: Evil) -> Iterator[EvilHub]:
    hub = EvilHub(evil)
    try:
        yield hub
    finally:
        hub.close()
