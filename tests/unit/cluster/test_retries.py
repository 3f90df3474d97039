"""Every verb meets every fault of an API server, of a proxy and of the network, and ends well."""

from __future__ import annotations

import json
import logging
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster_api import OURS, Api, obj, serving, status, write_kubeconfig
from faulty_api import FAULTS, Fault, FaultyApi

from qwenkit.cluster.api import retries
from qwenkit.cluster.api.connect import connection
from qwenkit.cluster.api.retries import failed, within
from qwenkit.cluster.api.transport import Reply
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import as_kind
from qwenkit.errors import Conflict, Forbidden, NotFound, QwenkitError, Rejected, Unreachable

CLAIM = "llm-model"


def claim(**labels: str) -> dict[str, Any]:
    spec = {"volumeName": CLAIM}
    return obj("v1/PersistentVolumeClaim", CLAIM, labels=labels or OURS, spec=spec)


@contextmanager
def cluster_at(url: str, folder: Path, *, patience_s: float, try_s: float) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(write_kubeconfig(folder / "config", url)))
        made = Cluster(
            connection("sandbox"),
            context="sandbox",
            namespace="default",
            run="default",
            timeout_s=try_s,
            patience_s=patience_s,
        )
    with closing(made) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules with shorter pauses."""
    monkeypatch.setattr(retries, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(retries, "_LONGEST_ASKED_S", 0.1)
    monkeypatch.setattr(retries, "_LEAST_S", 0.2)
    monkeypatch.setattr(retries, "_SHORT_S", 0.2)


VERBS: dict[str, Callable[[Cluster], object]] = {
    "READ": lambda cluster: cluster.version()["major"],
    "GET": lambda cluster: cluster.get("pvc", CLAIM)["metadata"]["name"],
    "LIST": lambda cluster: [one["metadata"]["name"] for one in cluster.list("pvc")],
    "LOG": lambda cluster: cluster.logs("p", container="c"),
    "PATCH": lambda cluster: cluster.apply(claim())["metadata"]["name"],
    "DELETE": lambda cluster: cluster.delete("pvc", CLAIM),
}
EXPECTED = {
    "READ": "1",
    "GET": CLAIM,
    "LIST": [CLAIM],
    "LOG": "last words\n",
    "PATCH": CLAIM,
    "DELETE": True,
}
# A log is text: a shorter one cannot be told from a whole one, nor has it items.
ANY_TEXT = {("LOG", "cut"), ("LOG", "null items")}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_gets_past_each_fault(verb: str, tmp_path: Path) -> None:
    api = Api()
    api.add(obj("v1/Pod", "p"))
    with serving(api.app()) as url, FaultyApi(url, silence_s=0.6).serving() as faulty:
        for fault in FAULTS:
            if (verb, fault) in ANY_TEXT:
                continue
            api.add(claim())
            with cluster_at(faulty.url, tmp_path, patience_s=5, try_s=0.3) as cluster:
                faulty.arm(Fault(verb, fault))
                assert VERBS[verb](cluster) == EXPECTED[verb], fault
                assert len(faulty.hits) == 1, fault
                left = api.get("PersistentVolumeClaim", CLAIM)
                assert (left is None) == (verb == "DELETE"), fault


def test_a_fault_without_end_is_one_typed_error_at_the_deadline(tmp_path: Path) -> None:
    api = Api()
    api.add(claim())
    with serving(api.app()) as url, FaultyApi(url, silence_s=0.6).serving() as faulty:
        for n, fault in enumerate(FAULTS):
            verb = ("LIST", "PATCH")[n % 2]
            with cluster_at(faulty.url, tmp_path, patience_s=0.3, try_s=0.2) as cluster:
                faulty.arm(Fault(verb, fault, times=10**6))
                began = time.monotonic()
                with pytest.raises((Unreachable, Conflict)) as caught:
                    VERBS[verb](cluster)
                assert time.monotonic() - began < 1.5, fault
                assert caught.value.fix
                assert caught.value.context["tries"] >= 1


def test_the_deadline_of_an_operation_is_shorter_than_the_patience(tmp_path: Path) -> None:
    with (
        serving(Api().app()) as url,
        FaultyApi(url).serving() as faulty,
        cluster_at(faulty.url, tmp_path, patience_s=60, try_s=30) as cluster,
    ):
        faulty.arm(Fault("READ", "429 in a day", times=10**6))
        began = time.monotonic()
        with pytest.raises(Unreachable), within(0.5):
            cluster.version()
        assert time.monotonic() - began < 1.5
        faulty.arm()
        assert cluster.version()  # the deadline ended with its block


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (400, "bad", Rejected),
        (401, "Unauthorized", Forbidden),
        (403, "pods is forbidden", Forbidden),
        (403, 'admission webhook "policy" denied the request: no', Rejected),
        (404, "gone", NotFound),
        (405, "no", Rejected),
        (422, "invalid", Rejected),
        (500, 'admission webhook "policy" denied the request: no', Rejected),
        (501, "not here", Unreachable),
    ],
)
def test_a_permanent_answer_is_not_repeated(
    cluster: Cluster, api: Api, code: int, message: str, error: type[QwenkitError]
) -> None:
    api.refuse = lambda method, *_: status(code, "R", message) if method == "PATCH" else None
    with pytest.raises(error):
        cluster.apply(claim())
    assert [method for method, *_ in api.requests].count("PATCH") == 1


def test_a_list_in_parts_begins_again_when_its_token_expires(cluster: Cluster, api: Api) -> None:
    api.add(claim())
    parts = [
        (200, {"kind": "L", "metadata": {"continue": "t"}, "items": [{"metadata": {"name": "a"}}]}),
        status(410, "Expired", "The provided continue parameter is too old"),
        (200, {"kind": "L", "metadata": {"continue": "u"}, "items": [{"metadata": {"name": "a"}}]}),
        (200, {"kind": "L", "metadata": {}, "items": [{"metadata": {"name": "b"}}]}),
    ]
    cluster.list("pvc")
    api.refuse = lambda *_: parts.pop(0)
    assert [one["metadata"]["name"] for one in cluster.list("pvc")] == ["a", "b"]
    tokens = [query.get("continue") for _, _, query, _ in api.requests[-4:]]
    assert tokens == [None, "t", None, "u"]


def test_a_page_of_a_proxy_with_404_does_not_mean_that_the_object_is_gone(tmp_path: Path) -> None:
    from aiohttp import web

    async def page(_request: web.Request) -> web.Response:
        return web.Response(status=404, text="<html>no backend</html>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    with (
        serving(app) as url,
        cluster_at(url, tmp_path, patience_s=0.2, try_s=1) as cluster,
        pytest.raises(Unreachable) as caught,
    ):
        cluster.find("pvc", CLAIM)
    assert "proxy" in caught.value.fix


def test_a_deletion_stops_at_another_object_of_the_same_name(cluster: Cluster, api: Api) -> None:
    api.add(claim())
    conflict = status(409, "Conflict", "Precondition failed: UID in precondition: a, in meta: b")

    def taken(method: str, _path: str, _body: object) -> Any:
        if method != "DELETE":
            return None
        api.add(claim() | {"spec": {"new": True}})["metadata"]["uid"] = "another"
        return conflict

    api.refuse = taken
    assert cluster.delete("pvc", CLAIM)
    assert api.get("PersistentVolumeClaim", CLAIM) is not None
    assert [method for method, *_ in api.requests].count("DELETE") == 1


def test_an_object_created_meanwhile_by_somebody_else_is_given_back(
    cluster: Cluster, api: Api
) -> None:
    theirs = [{"manager": "kubectl"}, {"manager": "qwenkit"}]
    api.applied = lambda obj: obj["metadata"].update(managedFields=theirs)
    with pytest.raises(Conflict, match="somebody else"):
        cluster.apply(claim())
    first, last = [body for method, _, _, body in api.requests if method == "PATCH"]
    assert first["spec"]
    assert last.keys() == {"apiVersion", "kind", "metadata"}
    assert last["metadata"].keys() == {"name", "uid"}


def test_only_our_object_is_forced_and_by_its_uid(cluster: Cluster, api: Api) -> None:
    uid = cluster.apply(claim())["metadata"]["uid"]
    cluster.apply(claim())
    created, changed = [one for one in api.requests if one[0] == "PATCH"]
    assert "force" not in created[2]
    assert "uid" not in created[3]["metadata"]
    assert changed[2]["force"] == "true"
    assert changed[3]["metadata"]["uid"] == uid


def test_a_long_wait_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_NOTICE_S", 0.05)
    with (
        serving(Api().app()) as url,
        FaultyApi(url).serving() as faulty,
        cluster_at(faulty.url, tmp_path, patience_s=5, try_s=1) as cluster,
        caplog.at_level(logging.WARNING, "qwenkit"),
    ):
        faulty.arm(Fault("READ", "503", times=6))
        cluster.version()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("the API server answers 503 (the server is currently unable")
    assert "; trying again until " in said


def test_a_wait_is_said_once_if_only_the_change_fails(
    cluster: Cluster, api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_NOTICE_S", 0)
    tries = 0

    def refuse(method: str, _path: str, _body: object) -> Any:
        nonlocal tries
        tries += method == "PATCH"
        return status(503, "ServiceUnavailable", "no") if method == "PATCH" and tries < 6 else None

    api.add(claim(**OURS))
    api.refuse = refuse
    with caplog.at_level(logging.WARNING, "qwenkit"):
        cluster.apply(claim(**OURS))
    assert len(caplog.records) == 1


def test_a_server_is_believed_within_reason() -> None:
    for text in ("7", "100000", "Fri, 01 Jan 2100 00:00:00 GMT"):
        reply = Reply(503, "", {"Retry-After": text}, b"")
        assert failed(reply, QwenkitError("x")).after_s == 0.1


def test_a_trickle_of_bytes_does_not_outlast_the_deadline(tmp_path: Path) -> None:
    import asyncio

    from aiohttp import web

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    app = web.Application()
    app.router.add_get("/version", trickle)
    with serving(app) as url, cluster_at(url, tmp_path, patience_s=0.3, try_s=30) as cluster:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            cluster.version()
        assert time.monotonic() - began < 1.5


HEAD = b"HTTP/1.1 200 OK\r\n"
DEEP = b"[" * 100_000
HOSTILE = {
    "no HTTP": b"\x16\x03\x01 hello\r\n\r\n",
    "bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "no gzip": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "many headers": HEAD + b"".join(b"A%d: b\r\n" % n for n in range(200)) + b"\r\n",
    "nested": HEAD + b"Content-Length: %d\r\n\r\n" % len(DEEP) + DEEP,
    "a long number": HEAD + b"Content-Length: 6006\r\n\r\n" + b'{"a":' + b"9" * 6000 + b"}",
    "null": HEAD + b"Content-Length: 4\r\n\r\nnull",
    "odd bytes": b"HTTP/1.1 503 \xff\r\nRetry-After: \xff\r\nContent-Length: 1\r\n\r\n\xff",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
    "switch": b"HTTP/1.1 101 Switching\r\n\r\n",
}


@pytest.mark.parametrize("answer", HOSTILE)
def test_whatever_bytes_come_the_error_is_typed(answer: str, tmp_path: Path) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(10_000)
            self.request.sendall(HOSTILE[answer])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            with (
                cluster_at(url, tmp_path, patience_s=0.1, try_s=1) as cluster,
                pytest.raises(Unreachable) as caught,
            ):
                cluster.version()
        finally:
            server.shutdown()
    assert caught.value.fix


@pytest.mark.parametrize("answer", ["[{}]", '[{"metadata": null}]', "null", "[null]"])
def test_a_list_of_what_are_no_objects_is_one_typed_error(answer: str, tmp_path: Path) -> None:
    api = Api()
    with (
        serving(api.app()) as url,
        cluster_at(url, tmp_path, patience_s=0.3, try_s=0.2) as cluster,
    ):
        cluster.serves(as_kind("pvc"))
        api.refuse = lambda *_: (200, {"kind": "List", "items": json.loads(answer)})
        with pytest.raises(Unreachable, match="did not answer as a Kubernetes API"):
            cluster.list("pvc")
        api.refuse = lambda *_: (200, {"kind": "L", "resources": json.loads(answer)})
        with pytest.raises(Unreachable, match="did not answer as a Kubernetes API"):
            cluster.list("secret")
