"""The objects of the cluster, with the API server's rules for changing them.

All methods are synchronous and called on one event loop's thread, so nothing can come between a
read and a write. Stored objects are never modified in place: each write stores a new dict, and
callers get deep copies.
"""

from __future__ import annotations

import json
import math
import random
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from qwenkit.admission.field_errors import required
from qwenkit.errors import SandboxError
from qwenkit.private_files import write_private
from qwenkit.sandbox.kube import api_error
from qwenkit.sandbox.kube.kinds import Kinds, ResourceKind
from qwenkit.sandbox.kube.objects import Object, copied, timestamp, utc_now
from qwenkit.sandbox.kube.policies.admission import admit
from qwenkit.sandbox.kube.storage import defaults, lifecycle, service_addresses
from qwenkit.sandbox.kube.storage.history import History, Subscription, WatchEvent, WatchEventType

Key = tuple[str, str]

# The alphabet of Kubernetes' generated names: no vowels, no look-alikes.
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_WINDOW, _WINDOW_BYTES = 10_000, 2**25
_OBJECT_BYTES = 3 * 2**19  # etcd's limit of a request


class ObjectStore:
    """All objects, their versions and their history.

    Args:
        kinds: what may be stored.
        clock: returns the current moment (timezone aware).
        window: how many changes are kept for watches.
        most_bytes: how large these are in all, as JSON.
    """

    def __init__(
        self,
        kinds: Kinds,
        *,
        clock: Callable[[], datetime] = utc_now,
        window: int = _WINDOW,
        most_bytes: int = _WINDOW_BYTES,
    ) -> None:
        self.kinds = kinds
        self._clock = clock
        self._objects: dict[str, dict[Key, Object]] = {kind.name: {} for kind in kinds}
        self._history = History(window, most_bytes)
        self._revision = 0

    # Reading

    @property
    def revision(self) -> int:
        """The resourceVersion of the last change."""
        return self._revision

    def find(self, kind: str | ResourceKind, namespace: str | None, name: str) -> Object | None:
        """Return the object, or None."""
        kind = self.kinds[kind]
        return copied(self._objects[kind.name].get(_key(kind, namespace, name)))

    def get(self, kind: str | ResourceKind, namespace: str | None, name: str) -> Object:
        """Return the object.

        Raises:
            ApiError: 404.
        """
        return copied(self._stored(self.kinds[kind], namespace, name))

    def list(
        self,
        kind: str | ResourceKind,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        at_revision: int | None = None,
    ) -> list[Object]:
        """Return objects by namespace and name, as they are now or were at a revision.

        Raises:
            ApiError: 410, history does not reach back to ``at_revision``.
        """
        kind = self.kinds[kind]
        objects: Mapping[Key, Object] = self._objects[kind.name]
        if at_revision is not None:
            objects = self._history.rewind(kind.name, objects, at_revision)
        wanted = (labels or {}).items()
        return [
            copied(obj)
            for key, obj in sorted(objects.items(), key=lambda entry: entry[0])
            if namespace in (None, "", key[0])
            and wanted <= obj["metadata"].get("labels", {}).items()
        ]

    def subscribe(
        self, kinds: set[str] | None = None, *, most_bytes: float = math.inf
    ) -> Subscription:
        """Subscribe to changes of some kinds (unique names), or of all.

        With more than ``most_bytes`` of changes not yet read, the subscription is closed.
        """
        return self._history.subscribe(
            None if kinds is None else {self.kinds[k].name for k in kinds}, most_bytes
        )

    def changes_since(self, kind: str | ResourceKind, revision: int) -> Sequence[WatchEvent]:
        """Return the changes of a kind after a revision; do not modify their objects.

        Raises:
            ApiError: 410, history does not reach back that far.
        """
        return self._history.since(self.kinds[kind].name, revision)

    # Writing

    def create(self, kind: str | ResourceKind, obj: Object, *, dry_run: bool = False) -> Object:
        """Store a new object; kinds with a status subresource start without the given status.

        Raises:
            ApiError: 404 (no such namespace), 409 (exists), 403 (a policy forbids it), 400.
        """
        kind = self.kinds[kind]
        new = copied(obj)
        metadata = new.setdefault("metadata", {})
        self._name(kind, metadata)
        key = _key(kind, metadata.get("namespace"), metadata["name"])
        if key in self._objects[kind.name]:
            raise api_error.already_exists(kind, metadata["name"])
        for field in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"):
            metadata.pop(field, None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = timestamp(self._clock())
        metadata.pop("generation", None)
        if kind.generation:
            metadata["generation"] = 1
        new |= {"apiVersion": kind.api_version, "kind": kind.kind}
        defaults.fill_in(kind, new)
        if kind.name == "Service":
            service_addresses.assign(new, self._objects[kind.name].values())
        admit(kind, new, None, self._in)
        if (status := defaults.initial_status(kind, new)) is not None:
            new["status"] = status
        elif kind.has_status:
            new.pop("status", None)
        return self._commit("ADDED", kind, key, new, None, dry_run)

    def update(self, kind: str | ResourceKind, obj: Object, *, dry_run: bool = False) -> Object:
        """Replace everything but the status; a ``resourceVersion`` in ``obj`` must be current.

        Raises:
            ApiError: 404, 403 (a policy forbids it), or 409 (stale resourceVersion, another uid).
        """
        kind = self.kinds[kind]
        old = self._current(kind, obj)
        new = copied(obj)
        new |= {"apiVersion": kind.api_version, "kind": kind.kind}
        lifecycle.keep(new["metadata"], old["metadata"], lifecycle.SERVER_OWNED)
        if kind.has_status:
            lifecycle.keep(new, old, ("status",))
        defaults.fill_in(kind, new)
        if kind.name == "Service":
            service_addresses.keep(new, old)
        admit(kind, new, old, self._in)
        return self._replace(kind, old, new, dry_run)

    def update_status(
        self, kind: str | ResourceKind, obj: Object, *, dry_run: bool = False
    ) -> Object:
        """Replace only the status, and ``managedFields`` if ``obj`` has them.

        Raises:
            ApiError: 404, or 409 for a stale resourceVersion or another uid.
        """
        kind = self.kinds[kind]
        old = self._current(kind, obj)
        new: Object = {**old, "metadata": dict(old["metadata"])}
        lifecycle.keep(new, copied({"status": obj.get("status")}), ("status",))
        if "managedFields" in obj["metadata"]:
            new["metadata"]["managedFields"] = copied(obj["metadata"]["managedFields"])
        return self._replace(kind, old, new, dry_run)

    def delete(
        self,
        kind: str | ResourceKind,
        namespace: str | None,
        name: str,
        *,
        grace_seconds: int | None = None,
        propagation: str = "Background",
        dry_run: bool = False,
    ) -> Object:
        """Delete an object, or mark it for deletion if a finalizer or the kubelet holds it.

        A pod on a node stays until the kubelet deletes it with a grace period of 0.
        ``propagation`` other than Background adds a finalizer for the garbage collector.

        Returns:
            The deleted or marked object.

        Raises:
            ApiError: 404.
        """
        kind = self.kinds[kind]
        old = self._stored(kind, namespace, name)
        key = _key(kind, namespace, name)
        new: Object = {**old, "metadata": copied(old["metadata"])}
        metadata = new["metadata"]
        lifecycle.add_keeper(metadata, propagation)
        grace = lifecycle.grace_seconds(kind, old, grace_seconds)
        content = self._content(name) if kind.name == "Namespace" else []
        held = bool(metadata.get("finalizers") or grace or content)
        if not held and "deletionTimestamp" not in metadata:
            return self._commit("DELETED", kind, key, old, old, dry_run)
        lifecycle.mark_deleted(kind, metadata, grace, self._clock())
        if content:
            new["status"] = {**new.get("status", {}), "phase": "Terminating"}
        marked = self._replace(kind, old, new, dry_run)
        for inner, space, inner_name in () if dry_run else content:
            self.delete(inner, space, inner_name)
        last = self._objects[kind.name].get(key)
        if last is None or (held and dry_run):
            return marked
        if held:
            return copied(last)
        return self._commit("DELETED", kind, key, last, last, dry_run)

    # Keeping

    def save(self, path: Path) -> None:
        """Write all objects to one JSON file (mode 0600)."""
        state = {
            "resourceVersion": self._revision,
            "objects": {name: list(objects.values()) for name, objects in self._objects.items()},
        }
        write_private(path, json.dumps(state))

    def load(self, path: Path) -> None:
        """Replace all objects by those of a file of ``save``; older watches must list again.

        Raises:
            SandboxError: the file is not such a snapshot.
        """
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            objects = {
                kind.name: {
                    (obj["metadata"].get("namespace", ""), obj["metadata"]["name"]): obj
                    for obj in state["objects"].get(kind.name, [])
                }
                for kind in self.kinds
            }
            self._revision = int(state["resourceVersion"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SandboxError(
                f"{path} is no snapshot of the sandbox's cluster",
                f"{type(error).__name__}: {error}",
                "delete the file: the sandbox then starts with an empty cluster",
            ) from error
        self._objects = objects
        self._history.restart(self._revision)

    # Parts

    def _stored(self, kind: ResourceKind, namespace: str | None, name: str) -> Object:
        found = self._objects[kind.name].get(_key(kind, namespace, name))
        if found is None:
            raise api_error.not_found(kind, name)
        return found

    def _current(self, kind: ResourceKind, obj: Object) -> Object:
        """Return the object that ``obj`` replaces, after checking uid and resourceVersion."""
        metadata = obj.get("metadata") or {}
        name = metadata.get("name", "")
        old = self._stored(kind, metadata.get("namespace"), name)
        uid = metadata.get("uid")
        if uid and uid != old["metadata"]["uid"]:
            raise api_error.precondition_failed(kind, name, "uid", uid, old["metadata"]["uid"])
        version = metadata.get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise api_error.conflict(kind, name)
        return old

    def _name(self, kind: ResourceKind, metadata: Object) -> None:
        """Complete the name and check the namespace of a new object."""
        if not kind.namespaced:
            metadata.pop("namespace", None)
        elif not metadata.get("namespace"):
            raise api_error.bad_request("an empty namespace may not be set during creation")
        if not metadata.get("name") and (prefix := metadata.get("generateName")):
            suffix = "".join(random.choices(_NAME_LETTERS, k=5))
            metadata["name"] = f"{prefix[:58]}{suffix}"
        if not metadata.get("name"):
            error = required("metadata.name", "name or generateName is required")
            raise api_error.invalid(kind, "", [error])
        if kind.namespaced:
            home = self._stored(self.kinds["Namespace"], None, metadata["namespace"])
            if "deletionTimestamp" in home["metadata"]:
                raise api_error.forbidden(
                    kind,
                    metadata["name"],
                    f"unable to create new content in namespace {metadata['namespace']} "
                    "because it is being terminated",
                )

    def _in(self, kind: str, namespace: str | None) -> Iterable[Object]:
        """Return the stored objects themselves, to be read only."""
        stored = self._objects[kind].items()
        return (obj for key, obj in stored if namespace in (None, key[0]))

    def _replace(self, kind: ResourceKind, old: Object, new: Object, dry_run: bool) -> Object:
        """Commit an update: nothing if equal, a deletion if the last finalizer is removed."""
        metadata, before = new["metadata"], old["metadata"]
        metadata["resourceVersion"] = before["resourceVersion"]
        if lifecycle.substance(new) == lifecycle.substance(old):
            return copied(old)
        key = _key(kind, metadata.get("namespace"), metadata["name"])
        if kind.generation and lifecycle.spec_part(kind, new) != lifecycle.spec_part(kind, old):
            metadata["generation"] = before.get("generation", 0) + 1
        released = before.get("finalizers") and not metadata.get("finalizers")
        if (
            released
            and "deletionTimestamp" in metadata
            and not metadata.get("deletionGracePeriodSeconds")
            and not (kind.name == "Namespace" and self._content(metadata["name"]))
        ):
            return self._commit("DELETED", kind, key, old, old, dry_run)
        return self._commit("MODIFIED", kind, key, new, old, dry_run)

    def _commit(
        self,
        change: WatchEventType,
        kind: ResourceKind,
        key: Key,
        obj: Object,
        previous: Object | None,
        dry_run: bool,
    ) -> Object:
        size = len(json.dumps(obj, ensure_ascii=False))
        if size > _OBJECT_BYTES and change != "DELETED":
            raise api_error.too_large(_OBJECT_BYTES)
        if dry_run:
            return copied(obj)
        self._revision += 1
        version = {"resourceVersion": str(self._revision)}
        obj = {**obj, "metadata": {**obj["metadata"], **version}}
        if change == "DELETED":
            del self._objects[kind.name][key]
        else:
            self._objects[kind.name][key] = obj
        self._history.add(WatchEvent(change, kind.name, obj, self._revision, previous, size))
        if change == "DELETED" and kind.namespaced:
            self._finish_namespace(key[0])
        return copied(obj)

    def _content(self, namespace: str) -> Sequence[tuple[ResourceKind, str, str]]:
        return [
            (kind, *key)
            for kind in self.kinds
            if kind.namespaced
            for key in self._objects[kind.name]
            if key[0] == namespace
        ]

    def _finish_namespace(self, name: str) -> None:
        """Remove a terminating namespace once it is empty."""
        kind = self.kinds["Namespace"]
        home = self._objects[kind.name].get(("", name))
        if home is None or "deletionTimestamp" not in home["metadata"]:
            return
        if not home["metadata"].get("finalizers") and not self._content(name):
            self._commit("DELETED", kind, ("", name), home, home, dry_run=False)


def _key(kind: ResourceKind, namespace: str | None, name: str) -> Key:
    return (namespace or "" if kind.namespaced else "", name)
