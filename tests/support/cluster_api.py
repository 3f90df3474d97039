"""A small Kubernetes API over HTTP for tests: enough verbs, no controllers."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from places import DATA

from qwenkit.cluster.client import Cluster
from qwenkit.sandbox.http import listen
from qwenkit.settings import Settings

Obj = dict[str, Any]
RECORDINGS = DATA / "cluster"
KSVC = "serving.knative.dev/v1/Service"
OURS = {"app.kubernetes.io/managed-by": "qwenkit", "qwenkit.dev/run": "default"}

# api version, kind, plural, namespaced
KINDS = [
    ("v1", "Pod", "pods", True),
    ("v1", "Event", "events", True),
    ("v1", "Secret", "secrets", True),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", True),
    ("v1", "PersistentVolume", "persistentvolumes", False),
    ("v1", "Node", "nodes", False),
    ("v1", "Namespace", "namespaces", False),
    ("v1", "ConfigMap", "configmaps", True),
    ("v1", "Service", "services", True),
    ("batch/v1", "Job", "jobs", True),
    ("apps/v1", "Deployment", "deployments", True),
    ("apps/v1", "DaemonSet", "daemonsets", True),
    ("storage.k8s.io/v1", "CSIDriver", "csidrivers", False),
    ("storage.k8s.io/v1", "CSINode", "csinodes", False),
    ("storage.k8s.io/v1", "StorageClass", "storageclasses", False),
    ("serving.knative.dev/v1", "Service", "services", True),
    ("serving.knative.dev/v1", "Configuration", "configurations", True),
    ("serving.knative.dev/v1", "Revision", "revisions", True),
    ("serving.knative.dev/v1", "Route", "routes", True),
    ("autoscaling.internal.knative.dev/v1alpha1", "PodAutoscaler", "podautoscalers", True),
]


class Api:
    """Objects in a dict. ``refuse`` may answer any request; ``applied`` sees what is applied."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Obj] = {}
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.refuse: Callable[[str, str, Any], tuple[int, Obj] | None] = lambda *_: None
        self.applied: Callable[[Obj], None] = lambda _obj: None
        self.listed: Callable[[str], None] = lambda _kind: None
        self.may: Callable[[Obj], bool] = lambda _attributes: True  # of an access review
        self.logs = "last words\n"
        self.ports: dict[str, str] = {}  # what a GET of NAME:PORT answers through the proxy
        self.without: set[str] = set()
        self._uids = 0

    def add(self, obj: Obj) -> Obj:
        """Store an object, as another client would."""
        meta = obj.setdefault("metadata", {})
        self._uids += 1
        meta.setdefault("uid", f"uid-{self._uids}")
        meta.setdefault("generation", 1)
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        self.objects[key(obj)] = obj
        return obj

    def get(self, kind: str, name: str) -> Obj | None:
        return next(
            (o for k, o in self.objects.items() if k[0].endswith(kind) and k[2] == name), None
        )

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.Response:
        body = json.loads(await request.text() or "null")
        path = "/" + request.match_info["path"]
        self.requests.append((request.method, path, dict(request.query), body))
        refused = self.refuse(request.method, path, body)
        if refused is not None:
            return web.json_response(refused[1], status=refused[0])
        if path == "/version":
            return web.json_response({"major": "1", "minor": "36+", "gitVersion": "v1.36.2"})
        if path.endswith("/selfsubjectaccessreviews"):
            allowed = self.may(body["spec"]["resourceAttributes"])
            return web.json_response({"kind": body["kind"], "status": {"allowed": allowed}})
        status, answer = self._route(request.method, path, dict(request.query), body)
        if isinstance(answer, str):
            return web.Response(text=answer, status=status)
        return web.json_response(answer, status=status)

    def _route(
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> tuple[int, Obj | str]:
        parts = path.strip("/").split("/")
        depth = 2 if parts[0] == "api" else 3
        version, rest = "/".join(parts[1:depth]), parts[depth:]
        if not rest:
            return self._discovery(version)
        namespaced = rest[0] == "namespaces" and len(rest) > 2
        namespace, rest = (rest[1], rest[2:]) if namespaced else ("", rest)
        row = next((k for k in KINDS if k[0] == version and k[2] == rest[0]), None)
        if row is None or row[1] in self.without:
            return missing(rest[0])
        kind = f"{version}/{row[1]}"
        if len(rest) == 1:
            return 200, self._list(kind, namespace, query)
        if rest[2:3] == ["proxy"]:
            found = self.ports.get(rest[1])
            return missing(rest[1]) if found is None else (200, found)
        if rest[2:] == ["log"]:
            return 200, self.logs
        return self._one(method, (kind, namespace, rest[1]), query, body)

    def _discovery(self, version: str) -> tuple[int, Obj]:
        found = [
            {"name": plural, "kind": kind, "namespaced": namespaced}
            for api, kind, plural, namespaced in KINDS
            if api == version and kind not in self.without
        ]
        return (200, {"kind": "APIResourceList", "resources": found}) if found else missing(version)

    def _list(self, kind: str, namespace: str, query: dict[str, str]) -> Obj:
        self.listed(kind)
        wanted = dict(p.split("=", 1) for p in query.get("labelSelector", "").split(",") if p)
        items = [
            {k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}
            for (k, ns, _), obj in self.objects.items()
            if k == kind
            and (not namespace or ns == namespace)
            and wanted.items() <= (obj["metadata"].get("labels") or {}).items()
        ]
        return {"kind": "List", "items": items}

    def _one(
        self, method: str, at: tuple[str, str, str], query: dict[str, str], body: Any
    ) -> tuple[int, Obj]:
        found = self.objects.get(at)
        if method == "GET":
            return (200, found) if found else missing(at[2])
        if method == "DELETE":
            if found is None:
                return missing(at[2])
            if found["metadata"].get("finalizers"):
                found["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
            else:
                del self.objects[at]
            return 200, {"kind": "Status", "status": "Success"}
        merged = merge(found or {}, body)
        merged["metadata"].setdefault("namespace", at[1]) if at[1] else None
        if "dryRun" in query:
            return 200, merged
        if found and found.get("spec") != merged.get("spec"):
            merged["metadata"]["generation"] += 1
        self.applied(self.add(merged))
        return 200, merged


class Replay(Api):
    """A recorded lifecycle: every listing of pods takes one recorded change."""

    def __init__(self, name: str, *, at: float) -> None:
        super().__init__()
        self._lines = deque(lifecycle(name))
        self.to(at)
        self.listed = lambda kind: self.step() if kind.endswith("/Pod") else None

    def step(self) -> None:
        """Take one recorded change, if one is left."""
        if self._lines:
            _, change, obj = self._lines.popleft()
            play(self.objects, change, obj)

    def to(self, seconds: float) -> None:
        """Take all changes up to a second of the recording."""
        while self._lines and self._lines[0][0] <= seconds:
            self.step()


def lifecycle(name: str) -> Iterator[tuple[float, str, Obj]]:
    with gzip.open(RECORDINGS / f"lifecycle-{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield tuple(json.loads(line))


def final(name: str, before: float | None = None) -> list[Obj]:
    """The objects of a recording at a second, default just before the Service is deleted."""
    lines = list(lifecycle(name))
    if before is None:
        # An action is logged when its call returns: its first effects are logged before it.
        deleted = [s for s, change, obj in lines if change == "ACTION" and obj["verb"] == "delete"]
        before = deleted[-1] - 0.1
    objects: dict[tuple[str, str, str], Obj] = {}
    for seconds, change, obj in lines:
        if seconds <= before:
            play(objects, change, obj)
    return list(objects.values())


def play(objects: dict[tuple[str, str, str], Obj], change: str, obj: Obj) -> None:
    """Apply one recorded change."""
    if change == "DELETED":
        objects.pop(key(obj), None)
    elif change not in ("ACTION", "ERROR"):
        objects[key(obj)] = obj


def obj(kind: str, name: str, *, namespace: str = "default", **more: Any) -> Obj:
    """Return an object of a kind such as ``apps/v1/Deployment``; ``labels`` go to its metadata."""
    api_version, _, kind = kind.rpartition("/")
    namespaced = next(row[3] for row in KINDS if row[:2] == (api_version, kind))
    meta: Obj = {"name": name, "labels": dict(more.pop("labels", {}))}
    meta |= {"namespace": namespace} if namespaced else {}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **more}


def key(obj: Obj) -> tuple[str, str, str]:
    meta = obj["metadata"]
    return f"{obj['apiVersion']}/{obj['kind']}", meta.get("namespace", ""), meta["name"]


def merge(old: Any, new: Any) -> Any:
    """JSON merge patch."""
    if not isinstance(new, dict):
        return new
    base = dict(old) if isinstance(old, dict) else {}
    for name, value in new.items():
        if value is None:
            base.pop(name, None)
        else:
            base[name] = merge(base.get(name), value)
    return base


def missing(name: str) -> tuple[int, Obj]:
    return status(404, "NotFound", f'"{name}" not found')


def status(code: int, reason: str, message: str) -> tuple[int, Obj]:
    return code, {"kind": "Status", "reason": reason, "message": message, "code": code}


@contextmanager
def serving(app: web.Application, tls: Any = None) -> Iterator[str]:
    """Serve an application from a thread; yields its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listening = asyncio.run_coroutine_threadsafe(listen(app, tls=tls), loop).result(10)
    try:
        yield listening.url
    finally:
        asyncio.run_coroutine_threadsafe(listening.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def write_kubeconfig(path: Path, server: str, *, context: str = "sandbox") -> Path:
    """Write a kubeconfig for a server without TLS; another context is the current one."""
    cluster = {"name": context, "cluster": {"server": server}}
    other = {"name": "production", "cluster": {"server": "http://127.0.0.1:9"}}
    user = {"name": "me", "user": {"token": "kube-token"}}
    contexts = [
        {"name": name, "context": {"cluster": name, "user": "me"}}
        for name in (context, "production")
    ]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster, other],
        "users": [user],
        "contexts": contexts,
        "current-context": "production",
    }
    path.write_text(json.dumps(config), "utf-8")
    return path


@contextmanager
def connected(
    api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch, *, patience_s: float = 2
) -> Iterator[Cluster]:
    """Connect a ``Cluster`` of the default settings to an API; outages are short in tests."""
    with serving(api.app()) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(folder / "config", url)))
        with closing(Cluster.connect(Settings(timeout_s=patience_s))) as cluster:
            yield cluster
