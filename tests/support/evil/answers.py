"""What a hub may answer that it should not: one list, for the tests and for tools/evil_hub.py."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator

from evil.hub import WEIGHTS, Answer, Evil, Exchange, Files, entry

LONG = 5000


def body(data: bytes, **headers: object) -> Answer:
    return lambda x: x.answer(data, **headers)


def raw(*pieces: bytes) -> Answer:
    return lambda x: x.send(*pieces)


def forever(head: bytes, piece: bytes, *, every_s: float = 0) -> Answer:
    """Send the head, then a piece again and again, until the client leaves."""

    def answer(x: Exchange) -> None:
        x.send(head)
        while True:
            x.send(piece)
            if every_s:
                time.sleep(every_s)

    return answer


def size(text: str) -> Answer:
    return lambda x: x.listing(entry(x.kind, '"model.safetensors"', text))


def path(text: str) -> Answer:
    return lambda x: x.listing(entry(x.kind, text, "1"))


def sha256(text: str) -> Answer:
    return lambda x: x.listing(entry(x.kind, '"w"', "1", text))


def location(target: str) -> Answer:
    return lambda x: x.redirect(target.format(url=x.url, elsewhere=x.elsewhere))


def bomb(x: Exchange) -> None:
    """Answer with 64 MiB in 300 kB."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    data = b"".join(packer.compress(block) for _ in range(64)) + packer.flush()
    x.answer(data, Content_Encoding="gzip")


def itself(x: Exchange) -> None:
    """A full listing again and again: the folder is in itself, or below without end."""
    full = [entry(x.kind, f'"f{n}"', "1") for n in range(2999)]
    root = x.path.partition("Root=")[2].partition("&")[0].replace("%2F", "/")
    if "Recursive=True" in x.path:
        x.listing(*full, entry(x.kind, '"d"', "0"))
    else:
        x.listing(entry(x.kind, json.dumps(f"{root}/d" if root else "d"), "0", type_='"tree"'))


def parent(x: Exchange) -> None:
    if "Recursive=True" in x.path:
        x.listing(*(entry(x.kind, f'"f{n}"', "1") for n in range(3000)))
    else:
        x.listing(entry(x.kind, '"d"', "0", type_='"tree"'))


def pages(following: Callable[[Exchange], str]) -> Answer:
    def answer(x: Exchange) -> None:
        name = json.dumps(f"f{x.number}")
        x.listing(entry(x.kind, name, "1"), Link=f'<{following(x)}>; rel="next"')

    return answer


def dripping_head(x: Exchange) -> None:
    x.send(b"HTTP/1.1 200 OK\r\nX-A: ")
    while True:
        x.send(b"a")
        time.sleep(1)


def silent(_: Exchange) -> None:
    threading.Event().wait(600)


def many_headers(x: Exchange) -> None:
    x.send(b"HTTP/1.1 200 OK\r\n", *(b"X-%d: 1\r\n" % n for n in range(100_000)), b"\r\n")


def reset(x: Exchange) -> None:
    x.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    x.connection.close()


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = b"%x\r\n%s\r\n0\r\n" % (len(WEIGHTS), WEIGHTS)
LENGTH = OK + b"Content-Length: 10000000000000\r\n\r\n"


def _answers() -> Iterator[Evil]:
    """Yield answers that are no listing at all."""
    T, R, U = ("TransferError",), ("Rejected",), ("Unreachable",)
    deep = b"[" * 1_000_000
    for name, answer, errors, says in (
        ("gzip-bomb", bomb, T, "too large"),
        ("gzip-broken", body(b"\x1f\x8b\x08 no", Content_Encoding="gzip"), T, "compressed"),
        ("gzip-cut", body(gzip.compress(b"[]")[:-9], Content_Encoding="gzip"), T, "compressed"),
        ("brotli", body(b"\x8b\x01\x80[]\x03", Content_Encoding="br"), T, "compressed"),
        ("endless-list", forever(OK + b"\r\n[", b"[]," * 20_000), T, "more than it may have"),
        ("endless-chunks", forever(CHUNKED, b"3\r\n{},\r\n" * 9000), T, "pieces"),
        ("ten-terabytes", forever(LENGTH, b" " * 60_000), T, "more than it may have"),
        ("deep", body(deep), T, "not JSON"),
        ("deep-objects", body(b'{"a":' * 300_000), T, "not JSON"),
        ("html", body(b"<html>Sign in</html>"), T, "not JSON"),
        ("empty", body(b""), T, "not JSON"),
        ("half", body(b'{"Code": 200, "Data": {"Fil'), T, "not JSON"),
        ("not-utf8", body(b'{"Data": "\xff\xfe"}'), T, "not JSON"),
        ("nan", body(b"[NaN]"), T, "not JSON"),
        ("long-number", body(b'[{"size": ' + b"1" * LONG + b"}]"), T, "not JSON"),
        ("null", body(b"null"), T, ""),
        ("number", body(b"7"), T, ""),
        ("text", body(b'"files"'), T, ""),
        ("wrong-object", body(b'{"Data": {"Files": {"0": {}}}, "sha": 7}'), T, ""),
        ("million-objects", body(b"[" + b"{}," * 2_500_000 + b"{}]"), T, ""),
        ("status-204", body(b"", status="204 No Content"), T, "refused the request"),
        ("status-999", body(b"", status="999 What"), U, "cannot answer now"),
        ("status-429", body(b"", status="429 Slow", Retry_After=100_000), U, "cannot answer now"),
        ("status-503", forever(b"HTTP/1.1 503 No\r\n\r\n", b" " * 9000), U, "cannot answer now"),
        ("status-403", forever(b"HTTP/1.1 403 No\r\n\r\n", b" " * 9000), ("Forbidden",), "refuses"),
        ("no-http", raw(b"SSH-2.0-OpenSSH_9\r\n\r\n"), U, "does not answer"),
        ("nothing", raw(), U, "does not answer"),
        ("reset", reset, U, "does not answer"),
        ("cut", raw(OK + b"Content-Length: 900\r\n\r\n[1,"), U, "broke off"),
        ("bad-chunk", raw(CHUNKED + b"zz\r\n[]\r\n0\r\n\r\n"), U, "broke off"),
        ("negative-length", raw(OK + b"Content-Length: -5\r\n\r\n"), T, ""),
        ("two-lengths", raw(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n[] "), U + R, ""),
        ("endless-header", forever(OK + b"X: ", b"a" * 9000), R, "headers"),
        ("many-headers", many_headers, R, "headers"),
        ("endless-continue", forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99), R, "headers"),
        ("endless-trailers", forever(CHUNKED + b"0\r\n", b"X: 1\r\n" * 99), R, "trailers"),
        ("endless-chunk-size", forever(CHUNKED + b"1;", b"a" * 9000), R + U, ""),
        ("redirect-circle", location("{url}/evil"), R, "in a circle"),
        ("redirect-forever", lambda x: x.redirect(f"/evil{x.number}"), R, "more than 8 times"),
        ("redirect-file", location("file:///etc/passwd"), R, "not an address of HTTP"),
        ("redirect-ftp", location("ftp://127.0.0.1/x"), R, "not an address of HTTP"),
        ("redirect-data", location("data:application/json,[]"), R, "not an address of HTTP"),
        ("redirect-nowhere", body(b"", status="302 Found"), T, "refused the request"),
        ("redirect-broken", location("http://[::1"), R, "not an address"),
        ("redirect-port", location("http://127.0.0.1:99999/"), R, "not an address"),
        ("redirect-latin", location("http://\xe9\xff/"), R, "not an address"),
        ("redirect-elsewhere", location("{elsewhere}/x"), ("NotFound",), "does not have it"),
        ("redirect-endless-body", forever(b"HTTP/1.1 302 F\r\nLocation: /evil\r\n\r\n", b" " * 99),
         R, "in a circle"),
    ):  # fmt: skip
        yield Evil(name, "listing", answer, errors, says)


def _entries() -> Iterator[Evil]:
    """Yield listings with entries that are none."""
    for name, text in {
        "negative": "-1", "half-byte": "1.5", "true": "true", "in-words": '"12"', "none": "null",
        "infinite": "1e999", "48-tb": "48000000000000", "more": "1" + "0" * 40, "list": "[1]",
        "object": '{"bytes": 1}',
    }.items():  # fmt: skip
        yield Evil(f"size-{name}", "listing", size(text), says="whole number of bytes")
    for name, text in {
        "null": "null", "number": "7", "list": "[]", "empty": '""', "up": '"../x"',
        "absolute": '"/etc/passwd"', "inside-up": '"a/../../b"', "nul": '"a\\u0000b"',
        "line": '"a\\nb"', "escape": '"\\u001b[2Jx"', "c1": '"a\\u009bx"', "half": '"\\ud800"',
        "long": json.dumps("a" * LONG), "dots": '".."', "slashes": '"a//b"',
    }.items():  # fmt: skip
        errors = ("TransferError", "Rejected")
        yield Evil(f"path-{name}", "listing", path(text), errors)
    for name, text in {"number": "7", "short": '"abc"', "list": "[]", "text": '"../../x"'}.items():
        yield Evil(f"sha256-{name}", "listing", sha256(text), says="hexadecimal")
    twice = lambda x: x.listing(*[entry(x.kind, '"w"', "1")] * 2)  # noqa: E731
    yield Evil("path-twice", "listing", twice, ("Rejected",), "twice")
    for name, text in {"null": "null", "text": '"w"', "list": "[]"}.items():
        yield Evil(f"entry-{name}", "listing", lambda x, text=text: x.listing(text))
    yield Evil(
        "many-entries", "listing",
        lambda x: x.listing(*(entry(x.kind, f'"{n}"', "1") for n in range(100_001))),
        says="at most",
    )  # fmt: skip
    shard = '"%05d-00001-of-99999.safetensors"'
    yield Evil(
        "shards-without-end",
        "listing",
        lambda x: x.listing(*(entry(x.kind, shard % n, "1") for n in range(2000))),
        ("Rejected",),
        "other shards count it",
    )
    yield Evil("tree-in-itself", "listing", itself, says="folders deep", kinds=("modelscope",))
    yield Evil("tree-of-parent", "listing", parent, says="one below it", kinds=("modelscope",))
    message = b'{"Success": false, "Message": "\\u001b[2J \\ud800 ' + b"a" * LONG + b'"}'
    yield Evil("evil-message", "listing", body(message), ("NotFound",), kinds=("modelscope",))
    onward = lambda x: f"{x.url}{x.path.partition('?')[0]}?cursor={x.number}"  # noqa: E731
    yield Evil("pages-forever", "listing", pages(onward), says="pages", kinds=("hf",))
    yield Evil("pages-in-a-circle", "listing", pages(lambda x: x.url + x.path),
               says="leads back", kinds=("hf",))  # fmt: skip
    yield Evil("page-broken", "listing", pages(lambda x: "http://[::1"), kinds=("hf",))
    for name, data in {"null": b"null", "path": b'"../../x"', "number": b"7",
                       "long": b'"' + b"a" * LONG + b'"', "line": b'"a\\nb"'}.items():  # fmt: skip
        answer = body(b'{"sha": ' + data + b"}")
        yield Evil(f"commit-{name}", "revision", answer, says="commit", kinds=("hf",))


def _files() -> Iterator[Evil]:
    """Yield files that are not what the listing says."""
    wrong = bytes(len(WEIGHTS))
    ranged = {"Content_Range": f"bytes 0-{'9' * LONG}/{'9' * LONG}"}
    for name, answer, errors, says in (
        ("other-bytes", body(wrong), ("TransferError",), "sha256"),
        ("longer", body(WEIGHTS + b"x"), ("TransferError",), "other bytes"),
        ("shorter", body(WEIGHTS[:9]), ("TransferError",), "other bytes"),
        ("gzip", body(WEIGHTS, Content_Encoding="gzip"), ("TransferError",), "compressed"),
        ("range", body(WEIGHTS, **ranged), ("TransferError",), "other bytes"),
        ("length-long", raw(OK + b"Content-Length: " + b"1" * LONG + b"\r\n\r\n"),
         ("TransferError",), ""),
        ("endless-trailers", forever(CHUNKED + WHOLE, b"X: 1\r\n" * 99),
         (), ""),
        ("redirect-circle", location("{url}/evil"), ("Rejected",), "in a circle"),
        ("redirect-file", location("file:///etc/passwd"), ("Rejected",), "not an address of HTTP"),
        ("redirect-elsewhere", location("{elsewhere}/x"), ("NotFound",), "does not have it"),
    ):  # fmt: skip
        yield Evil(f"file-{name}", "file", answer, errors, says)
    index, flat = "model.safetensors.index.json", b'{"weight_map": {"a": "\\u001b[2J"}}'
    for name, data in {"deep": b"[" * 100_000, "list": b"[]", "odd": b'{"weight_map": {"a": [1]}}',
                       "shard": flat, "long": b"1" * LONG}.items():  # fmt: skip
        files = ((index, data), ("model.safetensors", WEIGHTS))
        yield Evil(f"index-{name}", "nowhere", silent, ("Rejected",), files=files)
    for name, text in {
        "deep": b'{"a":' * 50_000,
        "infinite": _tensor(b"[1]", b"[0,1e999]"),
        "product": _tensor(b"[" + b",".join([b"9" * 4000] * 500) + b"]", b"[0,4]"),
        "name": _tensor(b"[1]", b"[4,8]"),
        "list": b"[]",
    }.items():
        data = struct.pack("<Q", len(text)) + text
        files = (("model.safetensors", data),)
        yield Evil(f"tensors-{name}", "nowhere", silent, ("Rejected",), "safetensors", files=files)


def _large_index() -> Files:
    text = b",".join(b'"%06d":""' % n for n in range(1_200_000))
    return (("model.safetensors.index.json", b'{"weight_map":{%s}}' % text),)


def _large_header() -> Files:
    facts = b'"%06d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    text = b"{%s}" % b",".join(facts % n for n in range(430_000))
    return (("model.safetensors", struct.pack("<Q", len(text)) + text + b"\0"),)


def _tensor(shape: bytes, offsets: bytes) -> bytes:
    facts = b'{"dtype":"F32","shape":%s,"data_offsets":%s}' % (shape, offsets)
    return b'{"\\u001b[2J":%s}' % facts


def _slow() -> Iterator[Evil]:
    """Yield answers that take their time."""
    rejected, unreachable = ("Rejected",), ("Unreachable",)
    yield Evil("index-large", "nowhere", silent, rejected, slow=True, files=_large_index)
    yield Evil("tensors-large", "nowhere", silent, rejected, slow=True, files=_large_header)
    big = (("model.safetensors", bytes(64 << 10)),)
    yield Evil("drip-head", "listing", dripping_head, unreachable, "less than", slow=True)
    yield Evil(
        "drip-list", "listing", forever(OK + b"\r\n[", b" ", every_s=1), unreachable, "less than",
        slow=True,
    )  # fmt: skip
    chunk = raw(CHUNKED + b"f" * 99 + b"\r\n")
    yield Evil("file-chunk-size", "file", chunk, unreachable, "broke off", slow=True)
    yield Evil("silent", "listing", silent, unreachable, "does not answer", slow=True)
    head = OK + b"Content-Length: 65536\r\n\r\n"
    drip = forever(head, b"\0", every_s=1)
    yield Evil("file-drip", "file", drip, unreachable, "less than", slow=True, files=big)
    above = forever(head, bytes(700), every_s=0.5)
    late = ("WaitTimeout",)
    yield Evil("file-limit", "file", above, late, "upload_timeout_s", files=big, limit_s=2)
    yield Evil("silent-limit", "listing", silent, late, "upload_timeout_s", limit_s=1)


EVILS: tuple[Evil, ...] = (*_answers(), *_entries(), *_files(), *_slow())
ROWS: tuple[tuple[Evil, str], ...] = tuple((evil, kind) for evil in EVILS for kind in evil.kinds)
