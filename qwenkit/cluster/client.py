"""A Kubernetes cluster as five verbs on plain dicts; only objects with our labels are changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from typing import Any, Self

from qwenkit.cluster.api_errors import from_api, unreachable
from qwenkit.cluster.connect import api_client
from qwenkit.cluster.discovery import NoDiscovery, Resources
from qwenkit.cluster.kinds import POD, Kind, Obj, as_kind, kind_of, name_of
from qwenkit.cluster.ownership import require_ours, require_staying
from qwenkit.errors import Forbidden, NotFound, QwenkitError
from qwenkit.settings import Settings

FIELD_MANAGER = "qwenkit"
_MERGE_PATCH = "application/merge-patch+json"


class Cluster:
    """One context of a kubeconfig. ``Cluster.connect`` makes one.

    Args:
        api: a ``kubernetes.client.ApiClient``.
        context: its name, for messages.
        namespace: where namespaced objects are if the caller names no other.
        run: the run whose objects may be changed.
        timeout_s: limit of one request.
    """

    def __init__(
        self, api: Any, *, context: str, namespace: str, run: str, timeout_s: float = 30
    ) -> None:
        self.context, self.namespace, self.run, self.timeout_s = context, namespace, run, timeout_s
        self._api = api

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Use the context that ``settings`` name, from the kubeconfigs that kubectl reads.

        Raises:
            NotFound: no such kubeconfig, or no such context in it.
            InvalidValue: the file is no kubeconfig.
            Unreachable: nobody answers at its address.
            Forbidden: the credentials are not accepted.
        """
        api = api_client(settings.context)
        cluster = cls(api, context=settings.context, namespace=settings.namespace, run=settings.run)
        try:
            cluster.version()
        except Forbidden as error:
            # 403: known, but this role may not read the version. It may well do the rest.
            if error.context.get("status") != 403:
                raise
        return cluster

    def __repr__(self) -> str:
        return f"Cluster({self.context!r}, namespace={self.namespace!r})"

    @property
    def address(self) -> str:
        """The API server's URL."""
        return str(self._api.configuration.host)

    def close(self) -> None:
        """Release the connections."""
        self._api.close()

    def version(self) -> Obj:
        """Return the server's ``/version``: ``major``, ``minor``, ``gitVersion`` ..."""
        return self._raw("/version", "reading the version")

    def serves(self, kind: Kind) -> bool:
        """Tell whether the cluster knows a kind."""
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
            NotFound: it does not exist, or the cluster does not know its kind.
        """
        kind = as_kind(kind)
        resource, where = self._place(kind, namespace)
        with self._speaking(f"reading {kind} {name}", kind, name):
            return self._plain(resource.get(name=name, namespace=where, **self._options()))

    def list(
        self,
        kind: Kind | str,
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        everywhere: bool = False,
    ) -> list[Obj]:
        """Return the objects of a kind, those with all of ``labels`` if given.

        Args:
            kind: what to list.
            namespace: where; default the cluster's own.
            labels: label names and values that must match.
            everywhere: in all namespaces.
        """
        kind = as_kind(kind)
        resource, where = self._place(kind, namespace)
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items()) or None
        with self._speaking(f"listing {kind}", kind):
            found = self._plain(
                resource.get(
                    namespace=None if everywhere else where,
                    label_selector=selector,
                    **self._options(),
                )
            )
        # A list's items leave out what the list says once.
        head = {"apiVersion": kind.api_version, "kind": kind.kind}
        return [head | item for item in found.get("items") or []]

    def apply(self, obj: Mapping[str, Any], *, dry_run: bool = False) -> Obj:
        """Create or change an object by server-side apply; returns what the server made of it.

        Args:
            obj: the object; any mapping that JSON can hold.
            dry_run: ask the server, webhooks included, and change nothing.

        Raises:
            Conflict: it exists and is not this run's, or is being deleted.
            Rejected: a webhook or the validation refused it; the fix names the flag if one is off.
        """
        kind, name = kind_of(obj), name_of(obj)
        body = json.loads(json.dumps(obj))
        resource, where = self._place(kind, body["metadata"].get("namespace"))
        existing = self.find(kind, name, namespace=where)
        if existing is not None:
            require_ours(existing, run=self.run)
            require_staying(existing)
        options = self._options() | ({"dry_run": "All"} if dry_run else {})
        with self._speaking(f"applying {kind} {name}", kind, name):
            # The object is ours: a field that somebody edited by hand is set back.
            return self._plain(
                resource.server_side_apply(
                    body=body,
                    name=name,
                    namespace=where,
                    field_manager=FIELD_MANAGER,
                    force_conflicts="true",
                    **options,
                )
            )

    def patch(
        self, kind: Kind | str, name: str, body: Mapping[str, Any], *, namespace: str | None = None
    ) -> Obj:
        """Merge ``body`` into an object of this run; None removes a key.

        Raises:
            NotFound: it does not exist.
            Conflict: it is not this run's.
        """
        kind = as_kind(kind)
        resource, where = self._place(kind, namespace)
        require_ours(self.get(kind, name, namespace=where), run=self.run)
        with self._speaking(f"patching {kind} {name}", kind, name):
            return self._plain(
                resource.patch(
                    body=dict(body),
                    name=name,
                    namespace=where,
                    content_type=_MERGE_PATCH,
                    field_manager=FIELD_MANAGER,
                    **self._options(),
                )
            )

    def delete(self, kind: Kind | str, name: str, *, namespace: str | None = None) -> bool:
        """Delete an object of this run; False if there was none.

        Raises:
            Conflict: it is not this run's.
        """
        kind = as_kind(kind)
        resource, where = self._place(kind, namespace)
        existing = self.find(kind, name, namespace=where)
        if existing is None:
            return False
        require_ours(existing, run=self.run)
        # The uid keeps us from deleting what took the name meanwhile.
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": {"uid": existing["metadata"].get("uid")},
        }
        try:
            with self._speaking(f"deleting {kind} {name}", kind, name):
                resource.delete(name=name, namespace=where, body=body, **self._options())
        except NotFound:
            return False
        return True

    def logs(self, pod: str, *, container: str, lines: int = 20, previous: bool = False) -> str:
        """Return the last lines of a container's log."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        query = [
            ("container", container),
            ("tailLines", lines),
            ("previous", str(previous).lower()),
        ]
        with self._speaking(f"reading the log of pod {pod}", POD, pod):
            response = self._dynamic.request(
                "get", path, query_params=query, serialize=False, **self._timeout
            )
            return str(response.data.decode("utf-8", "replace"))

    def follow(
        self, pod: str, *, container: str, lines: int = 5, silence_s: float = 30
    ) -> Iterator[str]:
        """Yield a container's last lines, then each line that it writes, until it ends.

        Raises:
            Unreachable: the connection broke, or nothing came for ``silence_s``.
            Rejected: the container has not started.
        """
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        query = [("container", container), ("tailLines", lines), ("follow", "true")]
        with self._speaking(f"following the log of pod {pod}", POD, pod):
            response = self._dynamic.request(
                "get",
                path,
                query_params=query,
                serialize=False,
                _request_timeout=(min(5.0, self.timeout_s), silence_s),
            )
            rest = b""
            with closing(response):
                for chunk in response.stream():
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from (line.decode("utf-8", "replace") for line in whole)
            if rest:
                yield rest.decode("utf-8", "replace")

    @cached_property
    def _dynamic(self) -> Any:
        from kubernetes import dynamic

        make: Any = dynamic.DynamicClient
        return make(self._api, discoverer=NoDiscovery)

    @cached_property
    def _resources(self) -> Resources:
        return Resources(self._dynamic, lambda path: self._raw(path, f"reading {path}"))

    @property
    def _timeout(self) -> dict[str, Any]:
        return {"_request_timeout": (min(5.0, self.timeout_s), self.timeout_s)}

    def _options(self) -> dict[str, Any]:
        return {"serializer": _as_is, **self._timeout}

    def _plain(self, answer: Any) -> Obj:
        if isinstance(answer, dict):
            return answer
        raise QwenkitError(
            f"{self.address} did not answer as a Kubernetes API",
            f"expected a JSON object, got {str(answer)[:80]!r}",
            "does the kubeconfig's server point at the API server, not at a gateway?",
        )

    def _place(self, kind: Kind, namespace: str | None) -> tuple[Any, str | None]:
        resource = self._resources.of(kind)
        return resource, (namespace or self.namespace) if resource.namespaced else None

    def _raw(self, path: str, what: str) -> Obj:
        with self._speaking(what):
            return self._plain(self._dynamic.request("get", path, **self._options()))

    @contextmanager
    def _speaking(self, what: str, kind: Kind | None = None, name: str = "") -> Iterator[None]:
        """Turn what the client libraries raise into our errors.

        ``from None``: theirs print headers and a second traceback, and add nothing to the message.
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


def _as_is(_client: Any, answer: Any) -> Any:
    return answer
