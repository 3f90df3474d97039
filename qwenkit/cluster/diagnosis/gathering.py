"""Gather what tells why a Service is as it is: objects, logs and events, without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.reading import read_log
from qwenkit.cluster.diagnosis.snapshot import (
    LogName,
    Snapshot,
    event_count,
    event_time,
    log_names,
)
from qwenkit.cluster.kinds import (
    CHILD_KINDS,
    CONFIG_MAP,
    CSI_DRIVER,
    CSI_NODE,
    EVENT,
    INGRESS,
    KNATIVE_NAMESPACE,
    KSVC,
    NODE,
    POD,
    POD_AUTOSCALER,
    REPLICA_SET,
    RUN_KINDS,
    SECRET,
    SERVICE_LABEL,
    Kind,
    Obj,
    kind_of,
    name_of,
)
from qwenkit.errors import QwenkitError
from qwenkit.errors.scrubbing import HIDDEN, scrub

_OF_SERVICE = (*CHILD_KINDS, POD_AUTOSCALER, REPLICA_SET)
_OF_CLUSTER = (EVENT, INGRESS, NODE, CSI_DRIVER, CSI_NODE)
_CONFIG_MAPS = [
    (CONFIG_MAP, f"config-{name}", KNATIVE_NAMESPACE)
    for name in ("features", "autoscaler", "network", "defaults", "domain", "gc")
]
_LAST_APPLIED = "last-applied-configuration"
_SECRET_NAME = re.compile(r"(?i)(key|token|secret|password|passwd|credentials?)$")
# A server may log what it is asked and what it answers: vllm/entrypoints/logger.py.
_REQUEST = re.compile(r"((?:Received request|Generated (?:\w+ )?response)\b[^:\n]*:).*")
# In a command line; and as vLLM logs its arguments: 'api_key': ['…'], api_key='…'.
_API_KEY = re.compile(
    r"""(--api-key[= ]["']?|\bapi_key['"]?\s*[:=]\s*\[?["']?)(?!None\b)[^\s'",\])]+"""
)


@dataclass
class Evidence:
    """What could be read of a cluster; ``unread`` says what could not, and why."""

    service: str
    objects: list[Obj] = field(default_factory=list)
    logs: dict[LogName, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def add(self, what: str, read: Callable[[], Iterable[Obj]]) -> None:
        """Add objects, each once, or why they cannot be read."""
        seen = {_identity(obj) for obj in self.objects}
        try:
            found = [_bare(obj) for obj in read() if _identity(obj) not in seen]
        except QwenkitError as error:
            self.unread.append(f"{what}: {error.what}: {error.why}")
        else:
            self.objects += found

    def snapshot(self) -> Snapshot:
        """Return what the rules of ``explain`` look at."""
        return Snapshot(self.service, tuple(self.objects), self.logs)

    def event_lines(self) -> list[str]:
        """Return the events as lines, the oldest first."""
        return [_event_line(event) for event in sorted(self.snapshot().of(EVENT), key=event_time)]


def gather(cluster: Cluster, service: str, *, prompts: bool = False) -> Evidence:
    """Read the objects and logs of a Service; what may not be read is named, not raised.

    Prompts and answers in the server's log are left out unless ``prompts``.
    """
    found = Evidence(service)
    listed = [(kind, cluster.labels) for kind in RUN_KINDS]
    listed += [(kind, {SERVICE_LABEL: service}) for kind in _OF_SERVICE]
    for kind, labels in [*listed, *((kind, {}) for kind in _OF_CLUSTER)]:
        found.add(str(kind), partial(cluster.list, kind, labels=labels or None))
    for kind, name, place in [(KSVC, service, None), *_CONFIG_MAPS]:
        found.add(name, partial(_find, cluster, kind, name, place))
    for pod in found.snapshot().of(POD):
        _add_logs(cluster, pod, found, prompts=prompts)
    return found


def _find(cluster: Cluster, kind: Kind, name: str, namespace: str | None) -> list[Obj]:
    return [obj for obj in [cluster.find(kind, name, namespace=namespace)] if obj]


def _add_logs(cluster: Cluster, pod: Obj, found: Evidence, *, prompts: bool) -> None:
    for log in log_names(pod):
        try:
            text = read_log(cluster, log)
        except QwenkitError as error:
            found.unread.append(f"{log}: {error.what}: {error.why}")
        else:
            found.logs[log] = _hidden(text if prompts else _REQUEST.sub(r"\1 (left out)", text))


def without_secrets(value: Any) -> Any:
    """Return an object's value without secrets: known ones, and what a field's name says is one."""
    if isinstance(value, list):
        return [
            HIDDEN if before == "--api-key" else without_secrets(each)
            for before, each in zip([None, *value], value, strict=False)
        ]
    if not isinstance(value, dict):
        return _hidden(value) if isinstance(value, str) else value
    if "value" in value and is_secret(str(value.get("name") or "")):
        return value | {"value": HIDDEN}
    return {key: without_secrets(each) for key, each in value.items()}


def _hidden(text: str) -> str:
    return _API_KEY.sub(r"\1" + HIDDEN, scrub(text))


def is_secret(name: str) -> bool:
    """Return whether a variable's name says that its value is a secret."""
    return _SECRET_NAME.search(name) is not None


def _bare(obj: Obj) -> Obj:
    """Return an object without long or secret parts: a Secret shows only the names of its keys."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    if notes := meta.get("annotations"):
        meta["annotations"] = {k: v for k, v in notes.items() if not k.endswith(_LAST_APPLIED)}
    bare = obj | {"metadata": meta}
    if kind_of(obj) == SECRET:
        bare["data"] = dict.fromkeys(bare.get("data") or {}, HIDDEN)
        bare.pop("stringData", None)
    found: Obj = without_secrets(bare)
    return found


def _identity(obj: Obj) -> tuple[object, ...]:
    return kind_of(obj), obj["metadata"].get("namespace"), name_of(obj)


def _event_line(event: Obj) -> str:
    about = event.get("involvedObject") or {}
    return (
        f"{event_time(event)}  {event.get('type', '')}  {event.get('reason', '')} "
        f"×{event_count(event)}  {about.get('kind')}/{about.get('name')}: "
        f"{' '.join(str(event.get('message') or '').split())}"
    )
