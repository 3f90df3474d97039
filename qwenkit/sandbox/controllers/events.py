"""How are events about objects recorded, and repeated ones counted?"""

from __future__ import annotations

import time
from typing import Any

from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.objects import Object, timestamp, utc_now
from qwenkit.sandbox.kube.storage.store import ObjectStore

NORMAL, WARNING = "Normal", "Warning"


class EventRecorder:
    """Writes events; a repeated one raises the count of the first.

    Args:
        store: where the events go.
        component: the event's source.
        host: the node, for a kubelet.
    """

    def __init__(self, store: ObjectStore, component: str, *, host: str = "") -> None:
        self._store, self._component, self._host = store, component, host
        self._known: dict[tuple[str, ...], str] = {}

    def normal(self, about: Object, reason: str, message: str) -> None:
        """Record a normal event."""
        self.record(about, NORMAL, reason, message)

    def warning(self, about: Object, reason: str, message: str) -> None:
        """Record a warning."""
        self.record(about, WARNING, reason, message)

    def record(self, about: Object, kind: str, reason: str, message: str, field: str = "") -> None:
        """Record a Normal or Warning event; ``field`` is the path of the container concerned."""
        key = (about["metadata"]["uid"], field, kind, reason, message)
        namespace = about["metadata"].get("namespace", "default")
        now = timestamp(utc_now())
        known = self._store.find("Event", namespace, self._known.get(key, ""))
        if known is not None:
            self._store.update("Event", known | {"count": known["count"] + 1, "lastTimestamp": now})
            return
        source = {"component": self._component} | ({"host": self._host} if self._host else {})
        event = event_about(about, kind, reason, message, field) | {
            "source": source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
        if create(self._store, event):
            self._known[key] = event["metadata"]["name"]


def event_about(about: Object, kind: str, reason: str, message: str, field: str = "") -> Object:
    """Return the fields that every event has."""
    metadata = about["metadata"]
    involved: dict[str, Any] = {
        "kind": about["kind"],
        "namespace": metadata.get("namespace"),
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": about["apiVersion"],
        "resourceVersion": metadata["resourceVersion"],
        "fieldPath": field,
    }
    return {
        "metadata": {
            "name": f"{metadata['name']}.{time.time_ns():x}",
            "namespace": metadata.get("namespace", "default"),
        },
        "involvedObject": {key: value for key, value in involved.items() if value},
        "type": kind,
        "reason": reason,
        "message": message,
    }


def create(store: ObjectStore, event: Object) -> bool:
    """Store an event; return False if its namespace is being deleted and takes no more objects."""
    try:
        store.create("Event", event)
    except ApiError:
        return False
    return True
