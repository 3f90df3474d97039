"""The diagnostics of a failed run: the cause, the objects and the events, without secrets."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

from ruamel.yaml import YAML

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.explain import explain
from qwenkit.cluster.diagnosis.snapshot import event_count, event_time
from qwenkit.cluster.kinds import (
    CHILD_KINDS,
    EVENT,
    POD_AUTOSCALER,
    RUN_KINDS,
    SECRET,
    SERVICE_LABEL,
    Kind,
    Obj,
    name_of,
)
from qwenkit.errors import QwenkitError

_MOST_EVENTS = 300
_LAST_APPLIED = "last-applied-configuration"


def diagnostics(cluster: Cluster, service: str) -> str:
    """Return this run's objects and events as text, or why they cannot be read."""

    def objects(kind: Kind, labels: dict[str, str]) -> str:
        return _as_yaml(cluster.list(kind, labels=labels))

    def events() -> str:
        found = sorted(cluster.list(EVENT), key=event_time)
        return "\n".join(map(_event_line, found[-_MOST_EVENTS:]))

    where = f"{cluster!r} at {cluster.address}, run {cluster.run!r}"
    wanted = [(kind, cluster.labels) for kind in RUN_KINDS]
    wanted += [(kind, {SERVICE_LABEL: service}) for kind in (*CHILD_KINDS, POD_AUTOSCALER)]
    parts = [
        _section("cluster", lambda: f"{where}, {cluster.version().get('gitVersion')}"),
        _section("explain", lambda: str(explain(cluster, service))),
        *(_section(str(kind), partial(objects, kind, labels)) for kind, labels in wanted),
        _section("events", events),
    ]
    return "\n".join(parts)


def _section(title: str, read: Callable[[], str]) -> str:
    try:
        text = read()
    except QwenkitError as error:
        text = f"cannot be read: {error}"
    return f"==== {title}\n{text.strip() or 'none'}\n"


def _as_yaml(objects: list[Obj]) -> str:
    out = io.StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.dump_all(map(_bare, objects), out)
    return out.getvalue()


def _bare(obj: Obj) -> dict[str, Any]:
    """Return an object without long or secret parts: a Secret shows only the names of its keys."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    notes = meta.pop("annotations", None) or {}
    meta["annotations"] = {k: v for k, v in notes.items() if not k.endswith(_LAST_APPLIED)}
    bare = obj | {"metadata": meta}
    if obj["kind"] == SECRET.kind:
        bare["data"] = sorted(bare.get("data") or {})
        bare.pop("stringData", None)
    return bare


def _event_line(event: Obj) -> str:
    about = event.get("involvedObject") or {}
    return (
        f"{event_time(event)}  {event.get('type', '')}  {event.get('reason', '')} "
        f"×{event_count(event)}  {about.get('kind')}/{about.get('name')}: "
        f"{' '.join(str(event.get('message') or '').split())} [{name_of(event)}]"
    )
