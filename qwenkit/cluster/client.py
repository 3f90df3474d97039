"""Read and change a Kubernetes cluster with plain dicts; only our objects are changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from typing import Any, Self

from qwenkit.cluster.api_errors import from_api, unreachable
from qwenkit.cluster.connect import api_client
from qwenkit.cluster.discovery import Resources
from qwenkit.cluster.kinds import (
    CONFIG_MAP,
    KNATIVE_NAMESPACE,
    POD,
    Kind,
    Obj,
    as_kind,
    is_terminating,
    kind_of,
    name_of,
)
from qwenkit.cluster.ownership import require_not_terminating, require_ours
from qwenkit.errors import Conflict, Forbidden, InvalidValue, NotFound, QwenkitError
from qwenkit.settings import Settings, run_labels

_FIELD_MANAGER = "qwenkit"
_SILENCE_S = 30.0  # how long a log that is followed may be silent


class Cluster:
    """One context of a kubeconfig, one namespace, one run. ``Cluster.connect`` makes one.

    Only objects of ``run`` may be changed. ``timeout_s`` is the limit of one request.

    >>> from qwenkit import Cluster, Settings
    >>> cluster = Cluster.connect(Settings())
    >>> [node["metadata"]["name"] for node in cluster.list("node")]
    ['gpu-node-1']
    """

    def __init__(
        self, api: Any, *, context: str, namespace: str, run: str, timeout_s: float = 30
    ) -> None:
        self.context, self.namespace, self.run, self.timeout_s = context, namespace, run, timeout_s
        self._api = api

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Connect to the context of ``settings``, from the kubeconfigs that kubectl reads.

        Raises:
            NotFound: no such kubeconfig, or no such context in it.
            InvalidValue: the file is not a kubeconfig.
            Unreachable: nothing answers at its address.
            Forbidden: the credentials are not accepted.
        """
        api = api_client(settings.context)
        cluster = cls(api, context=settings.context, namespace=settings.namespace, run=settings.run)
        try:
            cluster.version()
        except Forbidden as error:
            # 403: the credentials are good, but this role may not read the version.
            if error.context.get("status") != 403:
                raise
        return cluster

    def __repr__(self) -> str:
        return f"Cluster({self.context!r}, namespace={self.namespace!r})"

    @property
    def address(self) -> str:
        """The API server's URL."""
        return str(self._api.configuration.host)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of this run's objects."""
        return run_labels(self.run)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def version(self) -> Obj:
        """Return the server's ``/version``: ``major``, ``minor``, ``gitVersion`` ..."""
        return self._raw("/version", "reading the version")

    def serves(self, kind: Kind) -> bool:
        """Return whether the cluster serves a kind."""
        try:
            self._resources.of(kind)
        except NotFound:
            return False
        return True

    def find(self, kind: Kind | str, name: str, *, namespace: str | None = None) -> Obj | None:
        """Return an object, or None if it (or its kind) does not exist."""
        try:
            return self.get(kind, name, namespace=namespace)
        except NotFound:
            return None

    def get(self, kind: Kind | str, name: str, *, namespace: str | None = None) -> Obj:
        """Return an object.

        Raises:
            NotFound: it does not exist, or the cluster does not serve its kind.
        """
        kind, resource, where = self._place(kind, namespace)
        with self._own_errors(f"reading {kind} {name}", kind, name):
            return self._object(resource.get(name=name, namespace=where, **self._options))

    def knative_config(self, name: str) -> dict[str, str]:
        """Return the entries of Knative's ConfigMap ``config-<name>``, empty if there is none."""
        config = self.find(CONFIG_MAP, f"config-{name}", namespace=KNATIVE_NAMESPACE)
        return dict((config or {}).get("data") or {})

    def list(self, kind: Kind | str, *, labels: Mapping[str, str] | None = None) -> list[Obj]:
        """Return the objects of a kind with all of ``labels``; none if its API is not installed."""
        try:
            kind, resource, where = self._place(kind)
        except NotFound:
            return []
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items()) or None
        with self._own_errors(f"listing {kind}", kind):
            found = self._object(
                resource.get(namespace=where, label_selector=selector, **self._options)
            )
        # The items of a list have no apiVersion and kind of their own.
        head = {"apiVersion": kind.api_version, "kind": kind.kind}
        return [head | item for item in found.get("items") or []]

    def apply(self, obj: Mapping[str, Any], *, dry_run: bool = False) -> Obj:
        """Create or change an object by server-side apply; return the server's version of it.

        With ``dry_run`` the server and its webhooks check the object, and nothing changes.

        Raises:
            Conflict: it exists and is not this run's, or is being deleted.
            Rejected: a webhook or the validation refused it.
        """
        name, body = name_of(obj), json.loads(json.dumps(obj))
        kind, resource, where = self._place(kind_of(obj), body["metadata"].get("namespace"))
        existing = self.find(kind, name, namespace=where)
        if existing is not None:
            require_ours(existing, run=self.run)
            require_not_terminating(existing)
        options = self._options | ({"dry_run": "All"} if dry_run else {})
        with self._own_errors(f"applying {kind} {name}", kind, name):
            # The object is ours: a field that was edited by hand is reset.
            return self._object(
                resource.server_side_apply(
                    body=body,
                    name=name,
                    namespace=where,
                    field_manager=_FIELD_MANAGER,
                    force_conflicts="true",
                    **options,
                )
            )

    def patch(self, kind: Kind | str, name: str, body: Mapping[str, Any]) -> Obj:
        """Merge ``body`` into an object of this run; None removes a key.

        Raises:
            NotFound: it does not exist.
            Conflict: it is not this run's.
        """
        kind, resource, where = self._place(kind)
        require_ours(self.get(kind, name), run=self.run)
        with self._own_errors(f"patching {kind} {name}", kind, name):
            return self._object(
                resource.patch(
                    body=dict(body),
                    name=name,
                    namespace=where,
                    content_type="application/merge-patch+json",
                    field_manager=_FIELD_MANAGER,
                    **self._options,
                )
            )

    def delete(self, kind: Kind | str, name: str) -> bool:
        """Delete an object of this run; False if there was none.

        Raises:
            Conflict: it is not this run's.
        """
        kind, resource, where = self._place(kind)
        existing = self.find(kind, name)
        if existing is None:
            return False
        require_ours(existing, run=self.run)
        # The uid protects an object that has taken the name since.
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": {"uid": existing["metadata"].get("uid")},
        }
        try:
            with self._own_errors(f"deleting {kind} {name}", kind, name):
                resource.delete(name=name, namespace=where, body=body, **self._options)
        except NotFound:
            return False
        return True

    def shorten_grace(self, pod: Mapping[str, Any], seconds: int) -> bool:
        """Shorten the grace period of a pod that is being deleted; False if the pod is gone.

        The API server takes only a shorter period than the pod's. The kubelet then kills the
        containers after it, and removes the object, GPU and mounts when they have ended.
        """
        if not is_terminating(pod) or seconds < 1:  # with 0 the object would go before them
            raise InvalidValue("seconds", seconds, "must be 1 or more, for a terminating pod")
        kind, resource, where = self._place(POD, pod["metadata"].get("namespace"))
        name = name_of(pod)
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": seconds,
            "preconditions": {"uid": pod["metadata"].get("uid")},
        }
        try:
            with self._own_errors(f"shortening the grace of pod {name}", kind, name):
                resource.delete(name=name, namespace=where, body=body, **self._options)
        except NotFound:
            return False
        except Conflict:  # another pod has taken the name
            return False
        return True

    def logs(self, pod: str, *, container: str, lines: int = 20, previous: bool = False) -> str:
        """Return the last lines of a container's log."""
        query = {"container": container, "tailLines": lines, "previous": str(previous).lower()}
        with self._own_errors(f"reading the log of pod {pod}", POD, pod):
            response = self._log(pod, query, self.timeout_s)
            return str(response.data.decode("utf-8", "replace"))

    def follow(self, pod: str, *, container: str) -> Iterator[str]:
        """Yield a container's last lines, then each line that it writes, until it ends.

        Raises:
            Unreachable: the connection broke, or nothing came for 30 s.
            Rejected: the container has not started.
        """
        query = {"container": container, "tailLines": 5, "follow": "true"}
        with self._own_errors(f"following the log of pod {pod}", POD, pod):
            rest = b""
            with closing(self._log(pod, query, _SILENCE_S)) as response:
                for chunk in response.stream():
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from (line.decode("utf-8", "replace") for line in whole)
            if rest:
                yield rest.decode("utf-8", "replace")

    @cached_property
    def _dynamic(self) -> Any:
        from kubernetes import dynamic

        make: Any = dynamic.DynamicClient
        return make(self._api, discoverer=lambda *_: None)  # ``Resources`` takes its place

    @cached_property
    def _resources(self) -> Resources:
        return Resources(self._dynamic, lambda path: self._raw(path, f"reading {path}"))

    def _timeout(self, read_s: float) -> dict[str, Any]:
        return {"_request_timeout": (min(5.0, self.timeout_s), read_s)}

    @property
    def _options(self) -> dict[str, Any]:
        return {"serializer": lambda _client, answer: answer, **self._timeout(self.timeout_s)}

    def _log(self, pod: str, query: Mapping[str, object], read_s: float) -> Any:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        options = {"query_params": list(query.items()), "serialize": False, **self._timeout(read_s)}
        return self._dynamic.request("get", path, **options)

    def _object(self, answer: Any) -> Obj:
        if isinstance(answer, dict):
            return answer
        raise QwenkitError(
            f"{self.address} did not answer as a Kubernetes API",
            f"expected a JSON object, got {str(answer)[:80]!r}",
            "does the kubeconfig's server point at the API server, not at a gateway?",
        )

    def _place(
        self, kind: Kind | str, namespace: str | None = None
    ) -> tuple[Kind, Any, str | None]:
        """Return a kind, its resource, and the namespace to use if it has one."""
        kind = as_kind(kind)
        resource = self._resources.of(kind)
        return kind, resource, (namespace or self.namespace) if resource.namespaced else None

    def _raw(self, path: str, what: str) -> Obj:
        with self._own_errors(what):
            return self._object(self._dynamic.request("get", path, **self._options))

    @contextmanager
    def _own_errors(self, what: str, kind: Kind | None = None, name: str = "") -> Iterator[None]:
        """Translate the client libraries' errors into ours.

        ``from None``: theirs print headers and a second traceback, and add no information.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        facts = {"kind": kind.kind, "name": name} if kind else {}
        try:
            yield
        except ApiException as error:
            raise from_api(error, f"{what} failed", **facts) from None
        except HTTPError as error:
            raise unreachable(error, self.address, self.context, what, **facts) from None
