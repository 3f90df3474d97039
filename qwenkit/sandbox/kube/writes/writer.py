"""Writes that come over HTTP: decoding rules, field managers, admission, validation, store."""

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
)
from qwenkit.sandbox.kube.kinds import Kind
from qwenkit.sandbox.kube.objects import Object, copied, timestamp, utc_now
from qwenkit.sandbox.kube.paths import Target
from qwenkit.sandbox.kube.scale import SCALE, scale_of, scaled
from qwenkit.sandbox.kube.schema import fields
from qwenkit.sandbox.kube.schema.bodies import APPLY
from qwenkit.sandbox.kube.store import Store
from qwenkit.sandbox.kube.writes import apply, defaults, field_types, patches, validation

# admit(operation, kind, obj, old, dry_run, user) -> obj: what the webhooks make of an object.
# operation is CREATE or UPDATE, kind a unique name such as KnativeService; raises Rejected.
Admit = Callable[[str, str, Object, Object | None, bool, str], Object]

MERGE, JSON, STRATEGIC = (
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
)
# These are answered with the deleted object; the others with a Status.
_RETURNED = ("Pod", "Service", "ServiceAccount", "PersistentVolume", "PersistentVolumeClaim")


@dataclass(frozen=True)
class Call:
    """One write: what it names, who sends it, and how it is meant."""

    target: Target
    user: str
    manager: str
    dry_run: bool = False
    force: bool = False
    field_validation: str = "Warn"

    @property
    def kind(self) -> Kind:
        """The kind written to."""
        return self.target.kind


@dataclass(frozen=True)
class Written:
    """The answer to a write."""

    body: Object
    status: int = 200
    warnings: Sequence[str] = ()


class Writer:
    """Create, replace, patch and delete as the API server does it."""

    def __init__(self, store: Store, admit: Admit) -> None:
        self._store, self._admit = store, admit

    def create(self, call: Call, obj: Object) -> Written:
        """POST an object.

        Raises:
            ApiError: as the API refuses.
        """
        obj = _addressed(call, obj, named=False)
        warnings = _declared(call, obj)
        obj = apply.track(call.kind, None, obj, manager=call.manager, now=timestamp(utc_now()))
        return Written(self._created(call, obj), 201, warnings)

    def replace(self, call: Call, obj: Object) -> Written:
        """PUT an object or its status.

        Raises:
            ApiError: as the API refuses.
        """
        if call.target.subresource == "scale":
            return self._scaled(call, self._live(call), obj)
        obj = _addressed(call, obj, named=True)
        warnings = _declared(call, obj)
        live = self._live(call)
        if call.kind.custom and not obj["metadata"].get("resourceVersion"):
            rule = "must be specified for an update"
            error = field_errors.invalid("metadata.resourceVersion", 0, rule)
            raise invalid(call.kind, call.target.name, [error])
        return Written(self._updated(call, live, self._tracked(call, live, obj)), 200, warnings)

    def patch(self, call: Call, content_type: str, patch: Any) -> Written:
        """PATCH an object or its status, by any of the four patch types.

        Raises:
            ApiError: as the API refuses.
        """
        if content_type == APPLY:
            return self._apply(call, patch)
        live = self._live(call)
        if call.target.subresource == "scale":
            asked = _patched(SCALE, scale_of(live), content_type, patch)
            return self._scaled(call, live, asked)
        obj = _addressed(call, _patched(call.kind, live, content_type, patch), named=True)
        warnings = _declared(call, obj)
        return Written(self._updated(call, live, self._tracked(call, live, obj)), 200, warnings)

    def delete(self, call: Call, options: Object) -> Written:
        """DELETE an object.

        Raises:
            ApiError: 404, or 409 for a broken precondition.
        """
        kind, target = call.kind, call.target
        live = self._live(call)
        for field, wanted in (options.get("preconditions") or {}).items():
            found = live["metadata"].get(field)
            if wanted and wanted != found:
                label = {"uid": "UID"}.get(field, "ResourceVersion")
                why = (
                    f"Precondition failed: {label} in precondition: {wanted}, "
                    f"{label} in object meta: {found}"
                )
                raise conflict(kind, target.name, why)
        last = self._store.delete(
            kind,
            target.namespace,
            target.name,
            grace_seconds=options.get("gracePeriodSeconds"),
            propagation=options.get("propagationPolicy") or "Background",
            dry_run=call.dry_run,
        )
        waits = self._store.find(kind, target.namespace, target.name) and not call.dry_run
        if waits or kind.name in _RETURNED:
            return Written(last)
        details = {"name": target.name, "kind": kind.plural, "uid": last["metadata"]["uid"]}
        if kind.group:
            details["group"] = kind.group
        return Written(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": details,
            }
        )

    def _apply(self, call: Call, config: Any) -> Written:
        if not call.manager:
            raise ApiError(
                422,
                "Invalid",
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: '
                "is required for apply patch",
            )
        config = _addressed(call, config, named=True)
        if config["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        target = call.target
        live = self._store.find(call.kind, target.namespace, target.name)
        if live is None and target.subresource:
            raise not_found(call.kind, target.name)
        obj = apply.server_side_apply(
            call.kind,
            live,
            config,
            manager=call.manager,
            force=call.force,
            now=timestamp(utc_now()),
            subresource=target.subresource,
        )
        if live is None:
            return Written(self._created(call, obj), 201)
        return Written(self._updated(call, live, obj))

    def _scaled(self, call: Call, live: Object, asked: Object) -> Written:
        obj = self._tracked(call, live, scaled(live, asked))
        return Written(scale_of(self._updated(call, live, obj)))

    def _live(self, call: Call) -> Object:
        return self._store.get(call.kind, call.target.namespace, call.target.name)

    def _tracked(self, call: Call, live: Object, obj: Object) -> Object:
        return apply.track(
            call.kind,
            live,
            obj,
            manager=call.manager,
            now=timestamp(utc_now()),
            subresource=call.target.subresource,
        )

    def _created(self, call: Call, obj: Object) -> Object:
        if call.kind.namespaced:
            self._store.get("Namespace", None, call.target.namespace or "")
        obj = self._admitted(call, "CREATE", obj, None)
        return self._store.create(call.kind, obj, dry_run=call.dry_run)

    def _updated(self, call: Call, live: Object, obj: Object) -> Object:
        if call.target.subresource == "status":
            return self._store.update_status(call.kind, obj, dry_run=call.dry_run)
        obj = self._admitted(call, "UPDATE", obj, live)
        return self._store.update(call.kind, obj, dry_run=call.dry_run)

    def _admitted(self, call: Call, operation: str, obj: Object, old: Object | None) -> Object:
        if call.kind.name == "Secret":
            validation.decode_secret(obj)
        complete = copied(obj)
        defaults.apply(call.kind, complete)
        validation.validate(call.kind, complete, old)
        try:
            return self._admit(operation, call.kind.name, obj, old, call.dry_run, call.user)
        except Rejected as refused:
            status = int(refused.context.get("status", 400))
            reason = str(refused.context.get("reason", "BadRequest"))
            raise ApiError(status, reason, refused.what) from refused


def _patched(kind: Kind, live: Object, content_type: str, patch: Any) -> Any:
    if content_type == MERGE:
        return patches.merge_patch(live, patch)
    if content_type == JSON:
        return patches.json_patch(live, patch)
    if content_type == STRATEGIC and not kind.custom:
        return patches.strategic_merge(kind, live, patch)
    text = "the body of the request was in an unknown format - accepted media types include"
    accepted = ", ".join((JSON, MERGE, APPLY))
    raise ApiError(415, "UnsupportedMediaType", f"{text}: {accepted}")


def _addressed(call: Call, obj: Any, *, named: bool) -> Object:
    """Return a copy of ``obj`` that agrees with the path in kind, namespace and name."""
    kind, target = call.kind, call.target
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata", {}), dict):
        raise bad_request("the object provided is unrecognized: it must be a JSON object")
    if not kind.custom:
        # Built-in kinds are decoded as what the path says.
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
    if (obj.get("apiVersion"), obj.get("kind")) != (kind.api_version, kind.kind):
        said = f"{obj.get('apiVersion', '')}, Kind={obj.get('kind', '')}"
        text = f"the API version in the data ({said}) does not match the expected API version"
        raise bad_request(f"{text} ({kind.api_version}, Kind={kind.kind})")
    metadata = dict(obj.get("metadata") or {})
    if kind.namespaced and metadata.setdefault("namespace", target.namespace) != target.namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if named and metadata.setdefault("name", target.name) != target.name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL "
            f"({target.name})"
        )
    complete: Object = field_types.without_nulls({**obj, "metadata": metadata})
    field_types.check(kind, complete)
    return complete


def _declared(call: Call, obj: Object) -> Sequence[str]:
    """Drop undeclared fields in place; return the warnings that the caller asked for."""
    unknown = [f'unknown field "{path}"' for path in fields.prune(call.kind, obj)]
    if unknown and call.field_validation == "Strict":
        kind = call.kind
        raise bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            f"strict decoding error: {', '.join(unknown)}"
        )
    return unknown if call.field_validation == "Warn" else ()
