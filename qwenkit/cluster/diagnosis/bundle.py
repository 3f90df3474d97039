"""A folder with the objects and logs of a cluster, to be explained on another machine.

``objects.json`` is a ``v1`` List, and ``logs/<pod>/<container>[.previous].log`` are the logs. Any
part may be missing: what ``kubectl get … -o json`` and ``kubectl logs`` give will do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qwenkit.cluster.diagnosis.snapshot import LogName, Snapshot
from qwenkit.cluster.diagnosis.tidy import tidy
from qwenkit.cluster.kinds import KSVC, Obj, kind_of, name_of
from qwenkit.errors import InvalidValue, NotFound
from qwenkit.private_files import make_folder, write_private
from qwenkit.untrusted.files import read_text
from qwenkit.untrusted.parsing import parse_json

OBJECTS = "objects.json"
_PREVIOUS = ".previous"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_MOST_OBJECTS_BYTES, _LOG_BYTES = 2**28, 2**20


def write_bundle(folder: Path, objects: Iterable[Obj], logs: Mapping[LogName, str]) -> None:
    """Write objects and logs, for their owner alone to read.

    Raises:
        OSError: the folder cannot be written.
    """
    make_folder(folder)
    found = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    write_private(folder / OBJECTS, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for log, text in logs.items():
        if _NAME.fullmatch(log.pod) and _NAME.fullmatch(log.container):
            place = folder / "logs" / log.pod
            make_folder(place)
            suffix = _PREVIOUS * log.previous
            write_private(place / f"{log.container}{suffix}.log", text)


def read_bundle(folder: Path, name: str = "") -> Snapshot:
    """Return the snapshot of the Service ``name``; without a name, of the only one in the folder.

    Raises:
        NotFound: there is no bundle.
        InvalidValue: it cannot be read, or holds several Services and none is named.
    """
    path = folder / OBJECTS
    if not path.is_file():
        raise NotFound(
            f"{folder} holds no {OBJECTS}",
            "a bundle has it, and logs/<pod>/<container>[.previous].log",
            "qwenkit evidence DIR writes one; by hand: kubectl get ksvc,configurations,routes,"
            f"revisions,pods,pvc,events -o json > {path}",
        )
    try:
        found = parse_json(read_text(path, most=_MOST_OBJECTS_BYTES))
        objects = tuple(_objects(found))
    except (OSError, ValueError) as error:
        fix = "write it again: qwenkit evidence, or kubectl get … -o json"
        raise InvalidValue(str(path), "its content", f"must be a v1 List: {error}", fix) from None
    return Snapshot(name or _only_service(objects), objects, _logs(folder))


def _only_service(objects: Iterable[Obj]) -> str:
    names = [name_of(obj) for obj in objects if kind_of(obj) == KSVC]
    if len(names) == 1:
        return names[0]
    rule = f"one of {', '.join(names)}" if names else "the bundle holds no Knative Service"
    raise InvalidValue("NAME", "", rule, "name the service: qwenkit explain NAME --from DIR")


def _objects(found: Any) -> Iterable[Obj]:
    """Yield the objects; a field that is null, or of a wrong type, is one that is not there."""
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    items = found.get("items", [found] if "metadata" in found else None)
    if not isinstance(items, list):
        raise ValueError("it has no list of items")
    for number, item in enumerate(items):
        if not isinstance(item, dict) or "kind" not in item:
            raise ValueError(f"items[{number}] is no Kubernetes object")
        yield tidy(item)


def _logs(folder: Path) -> dict[LogName, str]:
    logs = {}
    for path in sorted(folder.glob("logs/*/*.log")):
        name = path.name.removesuffix(".log")
        log = LogName(path.parent.name, name.removesuffix(_PREVIOUS), name.endswith(_PREVIOUS))
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _LOG_BYTES))
                logs[log] = file.read().decode("utf-8", "replace")
        except OSError as error:
            raise InvalidValue(str(path), "its content", f"must be readable: {error}") from None
    return logs
