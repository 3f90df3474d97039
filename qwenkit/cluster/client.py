"""Read and change a Kubernetes cluster with plain dicts; only our objects are changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any, Self

from qwenkit.cluster.api.connect import connection
from qwenkit.cluster.api.retries import Retries, Transient, within
from qwenkit.cluster.api.transport import Reply, Request, Transport, many, parsed
from qwenkit.cluster.discovery import Resource, Resources
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
from qwenkit.cluster.ownership import require_not_terminating, require_ours, require_unshared
from qwenkit.cluster.pod_output import PodOutput
from qwenkit.cluster.requests import ApiRequests, access_review
from qwenkit.errors import Conflict, Forbidden, InvalidValue, NotFound
from qwenkit.settings import Settings, run_labels

_FIELD_MANAGER = "qwenkit"
_APPLY, _MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
# A server that has not answered yet may be the wrong one, or not started.
_FIRST_ANSWER_S = 30.0


class Cluster(PodOutput):
    """One context of a kubeconfig, one namespace, one run. ``Cluster.connect`` makes one.

    Only objects of ``run`` may be changed. A request that fails for the moment is repeated, each
    try for at most ``timeout_s``, all for at most ``patience_s`` or the operation's own deadline.

    >>> from qwenkit import Cluster, Settings
    >>> cluster = Cluster.connect(Settings())
    >>> [node["metadata"]["name"] for node in cluster.list("node")]
    ['gpu-node-1']
    """

    def __init__(
        self,
        transport: Transport,
        *,
        context: str,
        namespace: str,
        run: str,
        timeout_s: float = 30,
        patience_s: float = 600,
    ) -> None:
        self.context, self.namespace, self.run, self.timeout_s = context, namespace, run, timeout_s
        self._transport = transport
        self._retries = Retries(patience_s=patience_s, try_s=timeout_s)
        self._transport.slow = lambda: self._retries.say("the API server does not answer")
        self._ask = ApiRequests(transport, self._retries, context)
        self._resources = Resources(
            lambda path: self._raw(many("resources", "kind", "name", "namespaced"), path)
        )

    @classmethod
    def connect(cls, settings: Settings, *, first_answer_s: float = _FIRST_ANSWER_S) -> Self:
        """Connect to the context of ``settings``, from the kubeconfigs that kubectl reads.

        A server that does not answer is asked again for ``first_answer_s``, and once it has
        answered for ``timeout_s`` of the settings.

        Raises:
            NotFound: no such kubeconfig, or no such context in it.
            InvalidValue: the file is not a kubeconfig.
            Unreachable: nothing answers at its address.
            Forbidden: the credentials are not accepted.
        """
        cluster = cls(
            connection(settings.context),
            context=settings.context,
            namespace=settings.namespace,
            run=settings.run,
            patience_s=settings.timeout_s,
        )
        try:
            with within(first_answer_s):
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
        return self._transport.address

    @property
    def labels(self) -> dict[str, str]:
        """The labels of this run's objects."""
        return run_labels(self.run)

    def at(self, namespace: str) -> Self:
        """Return the same connections for another namespace."""
        other = copy(self)
        other.namespace = namespace
        return other

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def version(self) -> Obj:
        """Return the server's ``/version``: ``major``, ``minor``, ``gitVersion`` ..."""
        return self._raw(parsed, "/version")

    def date(self) -> str:
        """Return the time that the server writes on its answers, as in HTTP; empty without one."""
        reply = self._retries.run(lambda: self._ask.send(Request("GET", "/version"), "asking it"))
        return str(reply.headers.get("date") or "")

    def allows(self, right: Mapping[str, str]) -> bool:
        """Ask whether this role may do what the ``resourceAttributes`` of an access review say."""
        request = access_review(right)
        answer = self._retries.run(lambda: self._ask.read(parsed, request, "asking for rights"))
        return (answer.get("status") or {}).get("allowed") is True

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
        request = Request("GET", resource.path(where, name))
        what = f"reading {kind} {name}"
        return self._retries.run(lambda: self._ask.object(request, what, kind, name))

    def knative_config(self, name: str) -> dict[str, str]:
        """Return the entries of Knative's ConfigMap ``config-<name>``, empty if there is none."""
        config = self.find(CONFIG_MAP, f"config-{name}", namespace=KNATIVE_NAMESPACE)
        return dict((config or {}).get("data") or {})

    def list(
        self,
        kind: Kind | str,
        *,
        labels: Mapping[str, str] | None = None,
        everywhere: bool = False,
    ) -> list[Obj]:
        """Return the objects of a kind with all of ``labels``; none if its API is not installed.

        They are those of the namespace, or with ``everywhere`` of all namespaces.
        """
        try:
            kind, resource, where = self._place(kind)
        except NotFound:
            return []
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        query = {"labelSelector": selector} if selector else {}
        path, what = resource.path(None if everywhere else where), f"listing {kind}"

        def whole() -> list[Obj]:
            found: list[Obj] = []
            rest: dict[str, str] = {}
            while True:
                answer = self._ask.read(
                    many("items", "metadata"), Request("GET", path, query | rest), what, kind
                )
                found += answer["items"]
                token = (answer.get("metadata") or {}).get("continue")
                if not token:
                    return found
                rest = {"continue": token}

        # The items of a list have no apiVersion and kind of their own.
        head = {"apiVersion": kind.api_version, "kind": kind.kind}
        return [head | item for item in self._retries.run(whole)]

    def apply(self, obj: Mapping[str, Any], *, dry_run: bool = False) -> Obj:
        """Create or change an object by server-side apply; return the server's version of it.

        With ``dry_run`` the server and its webhooks check the object, and nothing changes.

        Raises:
            Conflict: it exists and is not this run's, or is being deleted.
            Rejected: a webhook or the validation refused it.
        """
        name, body = name_of(obj), json.loads(json.dumps(obj))
        kind, resource, where = self._place(kind_of(obj), body["metadata"].get("namespace"))
        query = {"fieldManager": _FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        path, what = resource.path(where, name), f"applying {kind} {name}"

        def once() -> Obj:
            existing = self.find(kind, name, namespace=where)
            # Only an object that is ours is forced: a field that was edited by hand is reset.
            # Its uid protects one that has taken the name since; one that was created since
            # conflicts, or is given back.
            force = {"force": "true"} if existing else {}
            if existing is not None:
                require_ours(existing, run=self.run, namespace=self.namespace)
                require_not_terminating(existing)
                body["metadata"]["uid"] = existing["metadata"].get("uid")
            else:
                body["metadata"].pop("uid", None)
            request = Request("PATCH", path, query | force, body, _APPLY)
            answer = self._ask.object(request, what, kind, name)
            if existing is None:
                self._require_created(answer, request, what)
            return answer

        return self._retries.run(once)

    def patch(
        self, kind: Kind | str, name: str, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> Obj:
        """Merge ``body`` into an object of this run; None removes a key.

        With ``dry_run`` the server and its webhooks check the change, and nothing changes.

        Raises:
            NotFound: it does not exist.
            Conflict: it is not this run's.
        """

        def once() -> Obj:
            existing = self.get(kind, name)
            require_ours(existing, run=self.run, namespace=self.namespace)
            return self._merge(existing, body, dry_run=dry_run)

        return self._retries.run(once)

    def change(
        self, kind: Kind | str, name: str, merge: Callable[[Obj], Mapping[str, Any] | None]
    ) -> Obj:
        """Merge into an object of this run what ``merge`` makes of it; with None leave it.

        Where somebody else has changed it meanwhile, it is read again, and ``merge`` called again.

        Raises:
            NotFound: it does not exist.
            Conflict: it is not this run's, or others change it all the time.
        """

        def once() -> Obj:
            existing = self.get(kind, name)
            require_ours(existing, run=self.run, namespace=self.namespace)
            body = merge(existing)
            return existing if body is None else self._merge(existing, body, as_read=True)

        return self._retries.run(once)

    def change_made(self, obj: Obj, body: Mapping[str, Any]) -> Obj:
        """Merge ``body`` into what Knative made for a Service of this run."""
        return self._retries.run(lambda: self._merge(obj, body))

    def _merge(
        self, obj: Obj, body: Mapping[str, Any], *, dry_run: bool = False, as_read: bool = False
    ) -> Obj:
        """Send a merge patch for an object by its uid; ``as_read``: only if it is as it was."""
        name, same = name_of(obj), ("uid", "resourceVersion") if as_read else ("uid",)
        kind, resource, where = self._place(kind_of(obj), obj["metadata"].get("namespace"))
        meta = {**body.get("metadata", {}), **{key: obj["metadata"].get(key) for key in same}}
        query = {"fieldManager": _FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        path, what = resource.path(where, name), f"patching {kind} {name}"
        request = Request("PATCH", path, query, {**body, "metadata": meta}, _MERGE)
        return self._ask.object(request, what, kind, name)

    def post(self, kind: Kind, name: str, sub: str, body: Mapping[str, Any]) -> Obj:
        """Post to a subresource of an object, such as the ``token`` of a ServiceAccount.

        Raises:
            NotFound: the object does not exist.
        """
        kind, resource, where = self._place(kind)
        request = Request("POST", f"{resource.path(where, name)}/{sub}", body=body)
        what = f"asking for the {sub} of {kind} {name}"
        return self._retries.run(lambda: self._ask.object(request, what, kind, name))

    def delete(self, kind: Kind | str, name: str) -> bool:
        """Delete an object of this run; False if there was none.

        Raises:
            Conflict: it is not this run's.
        """
        kind = as_kind(kind)
        existing = self.find(kind, name)
        if existing is None:
            return False
        require_ours(existing, run=self.run)
        accepted, tries = self._delete(kind, existing, propagationPolicy="Background")
        return accepted or tries > 1

    def delete_made(self, obj: Mapping[str, Any]) -> bool:
        """Delete what Knative made for a Service of this run; False if it is gone."""
        return self._delete(kind_of(obj), obj, propagationPolicy="Background")[0]

    def shorten_grace(self, pod: Mapping[str, Any], seconds: int) -> bool:
        """Shorten the grace period of a pod that is being deleted; False if the pod is gone.

        The API server takes only a shorter period than the pod's. The kubelet then kills the
        containers after it, and removes the object, GPU and mounts when they have ended.
        """
        if not is_terminating(pod) or seconds < 1:  # with 0 the object would go before them
            raise InvalidValue("seconds", seconds, "must be 1 or more, for a terminating pod")
        return self._delete(POD, pod, gracePeriodSeconds=seconds)[0]

    def _delete(self, kind: Kind, existing: Mapping[str, Any], **options: Any) -> tuple[bool, int]:
        """Delete an object by its uid; return whether it was still there, and the tries.

        The uid protects an object that has taken the name since. After a try whose answer was
        lost, an object that is not there may have been deleted by that try.
        """
        name, uid = name_of(existing), existing["metadata"].get("uid")
        kind, resource, where = self._place(kind, existing["metadata"].get("namespace"))
        head = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        request = Request("DELETE", resource.path(where, name), body=head | options)
        tries = 0

        def once() -> bool:
            nonlocal tries
            tries += 1
            try:
                self._ask.read(parsed, request, f"deleting {kind} {name}", kind, name)
            except NotFound:
                return False
            except Transient as failure:
                if isinstance(failure.error, Conflict):
                    now = self.find(kind, name, namespace=where)
                    if now is None or now["metadata"].get("uid") != uid:
                        tries += 1
                        return False
                raise
            return True

        return self._retries.run(once), tries

    def _place(
        self, kind: Kind | str, namespace: str | None = None
    ) -> tuple[Kind, Resource, str | None]:
        """Return a kind, its resource, and the namespace to use if it has one."""
        kind = as_kind(kind)
        resource = self._resources.of(kind)
        return kind, resource, (namespace or self.namespace) if resource.namespaced else None

    def _require_created(self, answer: Obj, request: Request, what: str) -> None:
        """Give back an object that somebody else created between our look and our apply."""
        try:
            require_unshared(answer, manager=_FIELD_MANAGER)
        except Conflict:
            head = {key: answer[key] for key in ("apiVersion", "kind")}
            name = {"name": name_of(answer), "uid": answer["metadata"].get("uid")}
            bare = replace(request, body=head | {"metadata": name})
            # An apply that names no field takes back all that the last one set.
            self._retries.run(
                lambda: self._ask.object(bare, what, kind_of(answer), name_of(answer))
            )
            raise

    def _raw(self, read: Callable[[Reply], Obj], path: str) -> Obj:
        return self._retries.run(
            lambda: self._ask.read(read, Request("GET", path), f"reading {path}")
        )
