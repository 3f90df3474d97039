"""What the server does with a POST, PUT, PATCH or DELETE.

In this order: check types, drop unknown fields, track field managers, validate, admit, store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qwenkit.admission import field_errors
from qwenkit.errors import Rejected
from qwenkit.sandbox.kube.api_error import (
    ApiError,
    bad_request,
    conflict,
    invalid,
    not_found,
    precondition_failed,
    success,
)
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, copied, timestamp, utc_now
from qwenkit.sandbox.kube.paths import ResourcePath
from qwenkit.sandbox.kube.scale import SCALE, scale_of, scaled
from qwenkit.sandbox.kube.schema import fields
from qwenkit.sandbox.kube.schema.request_bodies import APPLY, TOO_DEEP, is_deep
from qwenkit.sandbox.kube.storage import defaults
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kube.writes import field_types, patches, validation
from qwenkit.sandbox.kube.writes.server_side_apply import server_side_apply, track

# admit(operation, kind, obj, old, dry_run, user) -> obj, as the webhooks change it. operation is
# CREATE or UPDATE, kind a unique name such as KnativeService; raises Rejected.
Admit = Callable[[str, str, Object, Object | None, bool, str], Object]

MERGE, JSON, STRATEGIC = (
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
)
# The deletion of these is answered with the object, of others with a Status.
_RETURNED = ("Pod", "Service", "ServiceAccount", "PersistentVolume", "PersistentVolumeClaim")


@dataclass(frozen=True)
class WriteRequest:
    """One write: its object, who sends it, and its options."""

    path: ResourcePath
    user: str
    manager: str
    dry_run: bool = False
    force: bool = False
    field_validation: str = "Warn"

    @property
    def kind(self) -> ResourceKind:
        """The kind written to."""
        return self.path.kind


@dataclass(frozen=True)
class WriteResult:
    """The answer to a write."""

    body: Object
    status: int = 200
    warnings: Sequence[str] = ()


class Writer:
    """Creates, replaces, patches and deletes objects as the API server does."""

    def __init__(self, store: ObjectStore, admit: Admit) -> None:
        self._store, self._admit = store, admit

    def create(self, request: WriteRequest, obj: Object) -> WriteResult:
        """Answer a POST.

        Raises:
            ApiError: the API's refusal.
        """
        obj = _addressed(request, obj, named=False)
        warnings = _declared(request, obj)
        return self._stored(request, None, self._tracked(request, None, obj), warnings)

    def replace(self, request: WriteRequest, obj: Object) -> WriteResult:
        """Answer a PUT of an object or a subresource.

        Raises:
            ApiError: the API's refusal.
        """
        if request.path.subresource == "scale":
            return self._scaled(request, self._live(request), obj)
        obj = _addressed(request, obj, named=True)
        warnings = _declared(request, obj)
        live = self._live(request)
        if request.kind.custom and not obj["metadata"].get("resourceVersion"):
            rule = "must be specified for an update"
            error = field_errors.invalid("metadata.resourceVersion", 0, rule)
            raise invalid(request.kind, request.path.name, [error])
        return self._stored(request, live, self._tracked(request, live, obj), warnings)

    def patch(self, request: WriteRequest, content_type: str, patch: Any) -> WriteResult:
        """Answer a PATCH of an object or a subresource, in any of the four patch types.

        Raises:
            ApiError: the API's refusal.
        """
        if content_type == APPLY:
            return self._apply(request, patch)
        live = self._live(request)
        if request.path.subresource == "scale":
            scale = _patched(SCALE, scale_of(live), content_type, patch)
            return self._scaled(request, live, scale)
        obj = _addressed(request, _patched(request.kind, live, content_type, patch), named=True)
        warnings = _declared(request, obj)
        return self._stored(request, live, self._tracked(request, live, obj), warnings)

    def delete(self, request: WriteRequest, options: Object) -> WriteResult:
        """Answer a DELETE.

        Raises:
            ApiError: 404; 409, a precondition fails.
        """
        kind, path = request.kind, request.path
        live = self._live(request)
        for field, wanted in (options.get("preconditions") or {}).items():
            found = live["metadata"].get(field)
            if wanted and wanted != found:
                raise precondition_failed(kind, path.name, field, wanted, found)
        last = self._store.delete(
            kind,
            path.namespace,
            path.name,
            grace_seconds=options.get("gracePeriodSeconds"),
            propagation=options.get("propagationPolicy") or "Background",
            dry_run=request.dry_run,
        )
        waits = self._store.find(kind, path.namespace, path.name) and not request.dry_run
        if waits or kind.name in _RETURNED:
            return WriteResult(last)
        return WriteResult(success(kind, path.name, last["metadata"]["uid"]))

    def _apply(self, request: WriteRequest, config: Any) -> WriteResult:
        if not request.manager:
            raise ApiError(
                422,
                "Invalid",
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: '
                "is required for apply patch",
            )
        config = _addressed(request, config, named=True)
        if config["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        path = request.path
        live = self._store.find(request.kind, path.namespace, path.name)
        if live is None and path.subresource:
            raise not_found(request.kind, path.name)
        if live is None and (uid := config["metadata"].get("uid")):
            why = f"the provided object specified uid {uid}, and no existing object was found"
            raise conflict(request.kind, path.name, f"uid mismatch: {why}")
        obj = server_side_apply(
            request.kind,
            live,
            config,
            manager=request.manager,
            force=request.force,
            now=timestamp(utc_now()),
            subresource=path.subresource,
        )
        return self._stored(request, live, obj)

    def _scaled(self, request: WriteRequest, live: Object, scale: Object) -> WriteResult:
        obj = self._tracked(request, live, scaled(live, scale))
        return WriteResult(scale_of(self._updated(request, live, obj)))

    def _live(self, request: WriteRequest) -> Object:
        return self._store.get(request.kind, request.path.namespace, request.path.name)

    def _tracked(self, request: WriteRequest, live: Object | None, obj: Object) -> Object:
        return track(
            request.kind,
            live,
            obj,
            manager=request.manager,
            now=timestamp(utc_now()),
            subresource=request.path.subresource,
        )

    def _stored(
        self,
        request: WriteRequest,
        live: Object | None,
        obj: Object,
        warnings: Sequence[str] = (),
    ) -> WriteResult:
        if live is not None:
            return WriteResult(self._updated(request, live, obj), 200, warnings)
        if request.kind.namespaced:
            self._store.get("Namespace", None, request.path.namespace or "")
        obj = self._admitted(request, "CREATE", obj, None)
        created = self._store.create(request.kind, obj, dry_run=request.dry_run)
        return WriteResult(created, 201, warnings)

    def _updated(self, request: WriteRequest, live: Object, obj: Object) -> Object:
        if request.path.subresource == "status":
            return self._store.update_status(request.kind, obj, dry_run=request.dry_run)
        obj = self._admitted(request, "UPDATE", obj, live)
        return self._store.update(request.kind, obj, dry_run=request.dry_run)

    def _admitted(
        self, request: WriteRequest, operation: str, obj: Object, old: Object | None
    ) -> Object:
        if request.kind.name == "Secret":
            validation.decode_secret(obj)
        complete = copied(obj)
        defaults.fill_in(request.kind, complete)
        validation.validate(request.kind, complete, old)
        try:
            return self._admit(
                operation, request.kind.name, obj, old, request.dry_run, request.user
            )
        except Rejected as refused:
            status = int(refused.context.get("status", 400))
            reason = str(refused.context.get("reason", "BadRequest"))
            raise ApiError(status, reason, refused.what) from refused


def _patched(kind: ResourceKind, live: Object, content_type: str, patch: Any) -> Any:
    if content_type == MERGE:
        return patches.merge_patch(live, patch)
    if content_type == JSON:
        return patches.json_patch(live, patch)
    if content_type == STRATEGIC and not kind.custom:
        return patches.strategic_merge(kind, live, patch)
    text = "the body of the request was in an unknown format - accepted media types include"
    accepted = ", ".join((JSON, MERGE, APPLY))
    raise ApiError(415, "UnsupportedMediaType", f"{text}: {accepted}")


def _addressed(request: WriteRequest, obj: Any, *, named: bool) -> Object:
    """Return a copy of ``obj`` with the kind, namespace and name of the path."""
    kind, path = request.kind, request.path
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata", {}), dict):
        raise bad_request("the object provided is unrecognized: it must be a JSON object")
    if is_deep(obj):
        raise bad_request(TOO_DEEP)
    if not kind.custom:
        # For built-in kinds, the path decides which type is decoded.
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
    if (obj.get("apiVersion"), obj.get("kind")) != (kind.api_version, kind.kind):
        given = f"{obj.get('apiVersion', '')}, Kind={obj.get('kind', '')}"
        text = f"the API version in the data ({given}) does not match the expected API version"
        raise bad_request(f"{text} ({kind.api_version}, Kind={kind.kind})")
    metadata = dict(obj.get("metadata") or {})
    if kind.namespaced and metadata.setdefault("namespace", path.namespace) != path.namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if named and metadata.setdefault("name", path.name) != path.name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL "
            f"({path.name})"
        )
    complete: Object = field_types.without_nulls({**obj, "metadata": metadata})
    field_types.check(kind, complete)
    return complete


def _declared(request: WriteRequest, obj: Object) -> Sequence[str]:
    """Drop undeclared fields in place; return the warnings that the client requests."""
    unknown = [f'unknown field "{path}"' for path in fields.prune(request.kind, obj)]
    if unknown and request.field_validation == "Strict":
        kind = request.kind
        raise bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            f"strict decoding error: {', '.join(unknown)}"
        )
    return unknown if request.field_validation == "Warn" else ()
