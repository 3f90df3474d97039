# ruff: noqa: E501 - tables of cases
"""Send mutated requests, byte by byte, to a sandbox in a process of its own."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import fuzz_sources as sources
import oss2
from fuzz_mutations import ODD_TEXTS, Mutator

from qwenkit.sandbox import process, state_files

ANSWER_S = 20.0
# A request whose body never comes is given up soon; the server may wait for it.
_LIE, _LIE_S = b"X-Lie", 0.2
BOUND_MIB = 900.0
_BUCKET = state_files.BUCKET
# Answers that a real server gives too: what it cannot type, a version that does not exist yet.
_KNOWN = re.compile(rb"failed to create typed patch object|Too large resource version")
_HONEST = (501, 503, 504)


class Wire:
    """One connection at a time to one server; every request is raw bytes."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self._tls = ssl._create_unverified_context() if parts.scheme == "https" else None
        self._socket: socket.socket | None = None

    def ask(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        """Return status and the start of the answer; 0 if the connection ended without one.

        Raises:
            TimeoutError: the server neither answered nor closed in time.
        """
        for attempt in (1, 2):
            fresh = self._socket is None
            try:
                link = self._socket = self._socket or self._connect()
                link.settimeout(_LIE_S if _LIE in head else ANSWER_S)
                link.sendall(head + b"\r\n" + body)
                return self._answer(link, bodiless=head.startswith(b"HEAD"))
            except TimeoutError:
                self.close()
                raise
            except OSError:
                self.close()
                if fresh or attempt == 2:
                    return 0, b""
        return 0, b""

    def close(self) -> None:
        """Close the connection."""
        if self._socket:
            self._socket.close()
        self._socket = None

    def _connect(self) -> socket.socket:
        link = socket.create_connection((self.host, self.port), timeout=ANSWER_S)
        return self._tls.wrap_socket(link) if self._tls else link

    def _answer(self, link: socket.socket, *, bodiless: bool) -> tuple[int, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = link.recv(65536)
            if not chunk:
                self.close()
                return 0, data
            data += chunk
        header, _, rest = data.partition(b"\r\n\r\n")
        status = int(header.split(b" ", 2)[1])
        length = re.search(rb"(?i)content-length: (\d+)", header)
        if status == 100 or length is None or b"connection: close" in header.lower():
            self.close()  # also streams: their first bytes are enough
            return status, rest
        while len(rest) < int(length[1]) and not bodiless and status not in (204, 304):
            chunk = link.recv(65536)
            if not chunk:
                self.close()
                break
            rest += chunk
        return status, rest


def _loop(
    name: str,
    count: int,
    seed: int,
    setup: Callable[[Any], Callable[[Mutator], tuple[bytes, bytes]]],
    url: Callable[[Any], str],
) -> dict[str, Any]:
    """Send ``count`` requests; return what a ``Part`` holds."""
    sys.set_int_max_str_digits(0)  # here numbers are only printed
    root = Path(tempfile.mkdtemp()) / "root"
    state = process.up(root, state_files.SandboxOptions(time_scale=100))
    answers: Counter[str] = Counter()
    findings: dict[str, dict[str, str]] = {}
    slowest = 0.0
    try:
        wire, make = Wire(url(state) or _faults_url(root)), setup((root, state))
        for number in range(count):
            head, body = make(Mutator((seed, name, number)))
            began = time.monotonic()
            try:
                status, text = wire.ask(head, body)
            except TimeoutError:
                status, text = 0 if _LIE in head else -1, b""
            slowest = max(slowest, time.monotonic() - began)
            answers[
                f"{status // 100}xx" if status > 0 else ("closed" if status == 0 else "hung")
            ] += 1
            if status == -1 or (
                status >= 500 and status not in _HONEST and not _KNOWN.search(text)
            ):
                shown = re.sub(rb"[0-9a-fA-F-]{8,}", b"#", text[:300]).decode("utf-8", "replace")
                kind = f"{status} {shown}"
                if len(findings) < 40:
                    findings.setdefault(
                        kind, {"problem": kind, "case": repr(head)[:1500] + " " + repr(body)[:1500]}
                    )
        wire.close()
        findings |= _crashes(root)
        peak = _peak_mib(state.pid)
        state_files.running(root)
    finally:
        process.down(root)
        shutil.rmtree(root.parent, ignore_errors=True)
    return {
        "cases": count,
        "findings": list(findings.values()),
        "slowest_s": round(slowest, 2),
        "peak_mib": peak,
        "bound_mib": BOUND_MIB,
        "answers": dict(answers),
    }


def _crashes(root: Path) -> dict[str, dict[str, str]]:
    """Return the exceptions in the sandbox's log, each once."""
    log = (root / state_files.LOG).read_text("utf-8", "replace")
    found = {}
    for block in re.findall(
        r"Traceback \(most recent call last\):\n(?:[ ].*\n|\n)*(?:\S.*\n)", log
    ):
        lines = [line for line in block.splitlines() if "qwenkit" in line and "File" in line]
        place = lines[-1].strip() if lines else ""
        if "CancelledError" not in block and "aiohttp.http_exceptions" not in block:
            found.setdefault(
                place,
                {
                    "problem": f"in the log: {block.splitlines()[-1][:300]} {place}",
                    "case": block[-1500:],
                },
            )
    return found


def _peak_mib(pid: int) -> float:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        return round(int(re.findall(r"VmHWM:\s+(\d+)", text)[0]) / 1024, 1)
    text = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return round(int(text or 0) / 1024, 1)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _header_value(text: str) -> bytes:
    return _bytes(text.replace("\r", "").replace("\n", "").replace("\0", ""))[:60_000]


def _target(mutator: Mutator, path: str, query: dict[str, str]) -> bytes:
    if mutator.chance(0.15):
        path = mutator.text(path)
    pairs = "&".join(
        f"{quote(name, safe='')}={quote(_bytes(value)[:60_000], safe='%/:=,() !')}"
        for name, value in query.items()
    )
    raw = _bytes(path).replace(b" ", b"%20") + (
        b"?" + pairs.replace(" ", "+").encode() if pairs else b""
    )
    return re.sub(rb"[\r\n\0]", b"", raw)


def _message(
    mutator: Mutator, method: str, target: bytes, headers: dict[str, Any], body: bytes
) -> tuple[bytes, bytes]:
    """Return head and body, at times with a length or a coding that is a lie."""
    lie = mutator.random.random()
    headers = dict(headers) | ({_LIE.decode(): "1"} if lie < 0.04 else {})
    if lie < 0.02:
        headers["Content-Length"] = mutator.one_of(
            ("-1", "9" * 5000, "abc", "", "1e3", str(len(body) // 2))
        )
        headers["Connection"] = "close"
    elif lie < 0.04:
        headers["Transfer-Encoding"] = mutator.one_of(("chunked", "gzip, chunked", "rot13"))
        body = mutator.one_of(
            (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), b"zz\r\n", b"0\r\n\r\n")
        )
    else:
        headers["Content-Length"] = str(len(body))
    lines = [method.encode() + b" " + target + b" HTTP/1.1"]
    lines += [
        name.encode() + b": " + (value if isinstance(value, bytes) else _header_value(value))
        for name, value in headers.items()
    ]
    return b"\r\n".join(lines) + b"\r\n", body


# --- Kubernetes

_QUERIES = ("limit", "continue", "resourceVersion", "resourceVersionMatch", "timeoutSeconds", "fieldSelector", "labelSelector", "gracePeriodSeconds", "propagationPolicy", "dryRun", "fieldManager", "force", "fieldValidation", "pretty", "includeObject", "allowWatchBookmarks", "sendInitialEvents", "tailLines", "limitBytes", "container", "previous", "follow", "sinceSeconds", "timeout", "orphanDependents")  # fmt: skip
_USUAL = ("1", "true", "All", "500", "metadata.name=p", "app=p", "app in (p, q)", "status.phase=Running", "Background", "Foreground", "Strict", "Object", "Exact", "main", "fuzz", "0")  # fmt: skip
_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml")  # fmt: skip
_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/plain", "application/json; charset=rot13", "application/json; charset=utf-16", "", "a/b/c;;=")  # fmt: skip
_OPERATIONS = [{"op": "add", "path": "/metadata/labels/x", "value": "y"}, {"op": "remove", "path": "/spec"}, {"op": "test", "path": "/metadata/name", "value": 1}, {"op": "move", "from": "/spec", "path": "/spec/a"}, {"op": "copy", "from": "/metadata", "path": "/metadata/annotations"}, {"op": "replace", "path": "", "value": 1}, {"op": "add", "path": "/metadata/finalizers/-", "value": "a/b"}]  # fmt: skip
_FIXED_PATHS = ("/version", "/healthz", "/readyz", "/livez", "/api", "/apis", "/api/v1", "/apis/apps/v1", "/openapi/v2", "/openapi/v3", "/openapi/v3/apis/apps/v1", "/apis/serving.knative.dev/v1", "/metrics", "/", "/api/v1/namespaces/default/pods/p/log", "/api/v1/nodes", "/api/v1/namespaces/default/pods/p/exec")  # fmt: skip


def api(count: int, seed: int) -> dict[str, Any]:
    """Mutate what clients send to the Kubernetes API."""
    objects = sources.api_objects()

    def setup(started: Any) -> Callable[[Mutator], tuple[bytes, bytes]]:
        root = started[0]
        token = re.findall(r"token\"?: ['\"]?([\w-]+)", (root / "kubeconfig").read_text())[0]

        def make(mutator: Mutator) -> tuple[bytes, bytes]:
            collection = mutator.one_of(sorted(objects))
            obj = objects[collection]
            method = mutator.one_of(
                (
                    "GET",
                    "POST",
                    "POST",
                    "PUT",
                    "PATCH",
                    "PATCH",
                    "PATCH",
                    "DELETE",
                    "GET",
                    "HEAD",
                    "OPTIONS",
                    "TRACE",
                )
            )
            path = collection
            if method in ("PUT", "PATCH", "DELETE") or mutator.chance(0.3):
                path += f"/{obj.get('metadata', {}).get('name', 'x')}" + mutator.one_of(
                    ("", "", "", "/status", "/scale", "/log")
                )
            if mutator.chance(0.06):
                path = mutator.one_of(_FIXED_PATHS)
            query = {
                mutator.one_of(_QUERIES): mutator.one_of(ODD_TEXTS + list(_USUAL) * 3)
                for _ in range(mutator.one_of((0, 0, 1, 2, 3)))
            }
            if method == "GET" and mutator.chance(0.1):
                query |= {"watch": "true", "timeoutSeconds": query.get("timeoutSeconds", "1")}
            if method == "PATCH" and mutator.chance(0.8):
                query.setdefault("fieldManager", "fuzz")
                query.setdefault("force", "true")
            kind, body = _api_body(mutator, method, obj)
            headers: dict[str, Any] = {
                "Host": "127.0.0.1",
                "Content-Type": kind,
                "Authorization": f"Bearer {token}",
            }
            if mutator.chance(0.1):
                name = mutator.one_of(
                    (
                        "Accept",
                        "Content-Encoding",
                        "User-Agent",
                        "Authorization",
                        "Content-Type",
                        "Host",
                        "Expect",
                        "Accept-Encoding",
                        "X-Y",
                        "Impersonate-User",
                    )
                )
                headers[name] = mutator.one_of(
                    (
                        "rot13",
                        "gzip",
                        "application/json;as=Table;v=v1;g=meta.k8s.io",
                        "Bearer é",
                        b"Bearer \xff\xe9",
                        "Basic x",
                        *ODD_TEXTS,
                    )
                )
            return _message(mutator, method, _target(mutator, path, query), headers, body)

        return make

    return _loop("api", count, seed, setup, lambda state: state.api)


def _api_body(mutator: Mutator, method: str, obj: Any) -> tuple[str, bytes]:
    kind = mutator.one_of(_PATCHES) if method == "PATCH" else "application/json"
    value = mutator.value(obj, most=mutator.one_of((1, 1, 3))) if mutator.chance(0.8) else obj
    if method == "PATCH" and kind.startswith("application/json-patch"):
        value = mutator.value(
            [mutator.one_of(_OPERATIONS) for _ in range(mutator.one_of((1, 2, 3)))]
        )
    if method == "DELETE":
        value = mutator.value(
            {
                "gracePeriodSeconds": 0,
                "propagationPolicy": "Background",
                "preconditions": {"uid": "x"},
                "dryRun": [],
            }
        )
    if method in ("GET", "HEAD", "OPTIONS", "TRACE") and mutator.chance(0.9):
        return kind, b""
    text = json.dumps(value, default=str)
    if mutator.chance(0.08):
        kind, text = mutator.one_of(_TYPES), mutator.text(text)
    if kind.startswith("application/vnd"):
        return kind, mutator.one_of((b"k8s\x00", b"")) + mutator.random.randbytes(
            mutator.random.randint(0, 60)
        )
    if mutator.chance(0.03):
        text = mutator.one_of(
            (
                "[" * 3000,
                "{" * 3000,
                '{"a":' * 400 + "1" + "}" * 400,
                "- " * 1500,
                "? " * 1000,
                "a: &a [*a]",
                "\xff",
                '"' + "x" * 200_000 + '"',
                "[" + "1," * 20_000 + "1]",
            )
        )
        kind = mutator.one_of((kind, "application/yaml"))
    return kind, _bytes(text)


# --- OSS

_PARAMETERS = ("prefix", "delimiter", "marker", "max-keys", "encoding-type", "list-type", "continuation-token", "start-after", "uploads", "uploadId", "partNumber", "max-parts", "part-number-marker", "max-uploads", "key-marker", "upload-id-marker", "delete", "location", "stat", "bucketInfo", "objectMeta", "acl", "versionId", "response-content-type", "x-oss-process", "fetch-owner", "versions", "tagging")  # fmt: skip
_DELETE = "<Delete><Quiet>false</Quiet><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>"
_COMPLETE = '<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"X"</ETag></Part></CompleteMultipartUpload>'
_BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><Delete><Object><Key>&c;</Key></Object></Delete>'


def oss(count: int, seed: int) -> dict[str, Any]:
    """Mutate what clients send to OSS."""

    def setup(started: Any) -> Callable[[Mutator], tuple[bytes, bytes]]:
        root, state = started
        keys = state_files.read_keys(root)
        host = urlsplit(state.oss).netloc
        bucket = oss2.Bucket(oss2.Auth(*keys), state.oss, _BUCKET, session=_session())
        bucket.put_object("a", b"x" * 1000)
        upload = bucket.init_multipart_upload("m").upload_id
        bucket.upload_part("m", upload, 1, b"y" * 200_000)

        def make(mutator: Mutator) -> tuple[bytes, bytes]:
            method = mutator.one_of(
                ("GET", "GET", "PUT", "PUT", "POST", "POST", "DELETE", "HEAD", "OPTIONS")
            )
            key = mutator.one_of(("a", "m", "b/c", "", "", mutator.one_of(ODD_TEXTS), "x/" * 200))
            bucket_name = (
                _BUCKET if mutator.chance(0.9) else mutator.one_of(("", "no-such", *ODD_TEXTS))
            )
            params = {
                mutator.one_of(_PARAMETERS): mutator.one_of(
                    ODD_TEXTS + ["", "1", "100", "url", "/", "a"] * 4
                )
                for _ in range(mutator.one_of((0, 0, 1, 2, 3)))
            }
            if mutator.chance(0.3):
                key, params = (
                    "m",
                    params
                    | {"uploadId": upload if mutator.chance(0.8) else mutator.one_of(ODD_TEXTS)},
                )
                params |= (
                    {"partNumber": mutator.one_of(("1", "2", "10000", "0", *ODD_TEXTS))}
                    if method == "PUT"
                    else {}
                )
            if method == "POST" and mutator.chance(0.4):
                key, params = (
                    "",
                    {
                        "delete": "",
                        **(
                            {"encoding-type": mutator.one_of(("url", "rot13"))}
                            if mutator.chance(0.5)
                            else {}
                        ),
                    },
                )
            headers, body = _oss_headers(mutator), _oss_body(mutator, method)
            signed = _signed(keys, method, bucket_name, key, params, headers)
            headers = {"Host": host, **headers, **signed}
            if mutator.chance(0.05):
                headers["Authorization"] = mutator.one_of(
                    (
                        "OSS a:b",
                        "OSS",
                        "OSS4-HMAC-SHA256 Credential=a/b/c/d/e",
                        b"OSS \xff:\xe9",
                        *ODD_TEXTS,
                    )
                )
            path = "/" + "/".join(
                quote(_bytes(part), safe="~")
                for part in ([bucket_name] if bucket_name else []) + ([key] if key else [])
            )
            return _message(mutator, method, _target(mutator, path, params), headers, body)

        return make

    return _loop("oss", count, seed, setup, lambda state: state.oss)


def _session() -> Any:
    session = oss2.Session()
    session.session.trust_env = False
    return session


def _signed(
    keys: tuple[str, str],
    method: str,
    bucket: str,
    key: str,
    params: dict[str, str],
    headers: dict[str, Any],
) -> dict[str, str]:
    """Return the headers that sign a request; none if the client library cannot sign it."""
    request = oss2.http.Request(method, "http://any", params=dict(params), headers=dict(headers))
    try:
        oss2.Auth(*keys)._sign_request(request, bucket, key)
    except Exception:
        return {"Date": formatdate(usegmt=True)}
    return {
        name: request.headers[name] for name in ("date", "authorization") if name in request.headers
    }


def _oss_headers(mutator: Mutator) -> dict[str, Any]:
    names = ("Range", "Content-MD5", "Content-Type", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "x-oss-copy-source", "x-oss-forbid-overwrite", "x-oss-storage-class", "x-oss-meta-a", "x-oss-metadata-directive", "x-oss-range-behavior", "x-oss-complete-all", "x-oss-acl", "Content-Encoding", "x-oss-date", "Expect", "Expires", "Cache-Control", "x-oss-object-acl")  # fmt: skip
    usual = ("bytes=0-1", f"bytes=0-{'9' * 30}", "bytes=5-1", "bytes=-5", "bytes=--1", "Mon, 32 Foo 2026 99:99:99 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Sat, 01 Jan 99999 00:00:00 GMT", f"/{_BUCKET}/a", "/x", "true", "yes", "standard", "Standard", "AAAA", "rot13", "REPLACE", "private")  # fmt: skip
    chosen = {
        mutator.one_of(names): mutator.one_of((*usual, *usual, *ODD_TEXTS))
        for _ in range(mutator.one_of((0, 0, 1, 2)))
    }
    return {name: _header_value(text).decode("latin-1") for name, text in chosen.items()}


def _oss_body(mutator: Mutator, method: str) -> bytes:
    if method in ("GET", "HEAD", "DELETE", "OPTIONS"):
        return b"" if mutator.chance(0.95) else b"odd"
    text = mutator.one_of(
        (
            _DELETE,
            _COMPLETE,
            _BOMB,
            "x" * 300,
            "",
            "<a>" * 20_000,
            "<Delete/>",
            _COMPLETE.replace(">1<", f">{'9' * 5000}<"),
        )
    )
    return _bytes(mutator.text(text)) if mutator.chance(0.7) else _bytes(text)


# --- the other servers


def hub(count: int, seed: int) -> dict[str, Any]:
    """Mutate what clients send to the hub."""
    model = "qwen/Qwen-7B-Chat-Int8"
    paths = (f"/api/v1/models/{model}/repo/files", f"/api/v1/models/{model}/repo", f"/api/v1/models/{model}/revisions", f"/models/{model}/resolve/master/config.json", f"/api/models/{model}", f"/api/models/{model}/tree/main", f"/{model}/resolve/main/config.json")  # fmt: skip

    def make(mutator: Mutator) -> tuple[bytes, bytes]:
        query = {
            mutator.one_of(
                ("Revision", "Recursive", "Root", "FilePath", "recursive", "limit", "cursor")
            ): mutator.one_of((*ODD_TEXTS, "master", "config.json", "true"))
            for _ in range(mutator.one_of((0, 1, 2)))
        }
        headers = {
            "Host": "x",
            **(
                {
                    "Range": mutator.one_of(
                        (*ODD_TEXTS, "bytes=0-1", f"bytes={'9' * 5000}-", "bytes=-0")
                    )
                }
                if mutator.chance(0.4)
                else {}
            ),
        }
        path = mutator.one_of(paths)
        return _message(
            mutator,
            mutator.one_of(("GET", "GET", "HEAD", "POST")),
            _target(mutator, mutator.text(path) if mutator.chance(0.5) else path, query),
            headers,
            b"",
        )

    return _loop("hub", count, seed, lambda _: make, lambda state: state.hub)


def gateway(count: int, seed: int) -> dict[str, Any]:
    """Mutate what clients send to the gateway, whose hosts are all unknown."""

    def make(mutator: Mutator) -> tuple[bytes, bytes]:
        headers = {
            "Host": mutator.one_of((*ODD_TEXTS, "qwen.default.example.com", "internalkourier")),
            mutator.one_of(
                (
                    "K-Network-Probe",
                    "K-Network-Hash",
                    "User-Agent",
                    "Upgrade",
                    "Connection",
                    "X-Forwarded-For",
                    "Expect",
                )
            ): mutator.one_of((*ODD_TEXTS, "queue", "probe", "kube-probe/1", "websocket")),
        }
        return _message(
            mutator,
            mutator.one_of(("GET", "POST", "BREW")),
            _target(mutator, "/v1/chat/completions", {}),
            headers,
            b"{}",
        )

    return _loop("gateway", count, seed, lambda _: make, lambda state: state.gateway)


def faults(count: int, seed: int) -> dict[str, Any]:
    """Mutate what injects faults, without those that break connections."""
    base = {
        "where": "oss",
        "what": "500",
        "on": "GetObject",
        "times": 1,
        "for_s": 0.0,
        "seconds": 0.0,
    }
    address: dict[str, str] = {}

    def setup(started: Any) -> Callable[[Mutator], tuple[bytes, bytes]]:
        address.update(json.loads((started[0] / state_files.FAULTS_ADDRESS).read_text()))

        def make(mutator: Mutator) -> tuple[bytes, bytes]:
            spec = base | {
                "where": mutator.one_of(
                    ("oss", "hub", "api", "pod", "gpu", "mount", "weights", "x")
                ),
                "what": mutator.one_of(
                    ("500", "429", "lost", "slow", "oom", "zero-tensor", "reset", "x")
                ),
            }
            body = (
                _bytes(json.dumps(mutator.value(spec), default=str))
                if mutator.chance(0.9)
                else _bytes(mutator.text("{}"))
            )
            headers: dict[str, Any] = {
                "Host": "x",
                "Authorization": f"Bearer {address['token']}"
                if mutator.chance(0.95)
                else b"Bearer \xe9",
            }
            return _message(
                mutator,
                mutator.one_of(("POST", "POST", "GET", "DELETE", "PUT")),
                _target(mutator, "/faults", {}),
                headers,
                body,
            )

        return make

    return _loop("faults", count, seed, setup, lambda _: "")


def _faults_url(root: Path) -> str:
    return str(json.loads((root / state_files.FAULTS_ADDRESS).read_text())["url"])
