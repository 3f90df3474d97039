"""What the API server refuses in the sources of a pod's volumes, and in the paths of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.admission.field_errors import (
    Errors,
    FieldError,
    broken,
    duplicate,
    forbidden,
    invalid,
    required,
)
from qwenkit.admission.schema import names

Object = Mapping[str, Any]
# The sources in the order of the API server, with the fields that each must have.
_SOURCES: Mapping[str, tuple[str, ...]] = {
    "emptyDir": (),
    "hostPath": ("path",),
    "secret": ("secretName",),
    "nfs": ("server", "path"),
    "persistentVolumeClaim": ("claimName",),
    "downwardAPI": (),
    "configMap": ("name",),
    "projected": (),
    "csi": ("driver",),
    "ephemeral": ("volumeClaimTemplate",),
    "image": ("reference",),
}
_TOKEN_LEAST_S = 600


def volume_errors(volumes: list[Object], path: str) -> tuple[list[FieldError], set[str]]:
    """Check the volumes; return what is wrong, and the names of those that can be mounted."""
    found: list[FieldError] = []
    mountable: set[str] = set()
    for index, volume in enumerate(volumes):
        name, here = volume.get("name", ""), f"{path}[{index}]"
        own = list(_volume(volume, here))
        if name:
            own += broken(f"{here}.name", name, names.dns_1123_label(name, unit="bytes"))
        else:
            own.append(required(f"{here}.name"))
        if name in mountable:
            own.append(duplicate(f"{here}.name", name))
        found += own
        if not own:
            mountable.add(name)
    return found, mountable


def relative_path(target: str, path: str) -> Errors:
    """Check a path that must stay below its folder."""
    if target.startswith("/"):
        yield invalid(path, target, "must be a relative path")
    if ".." in target.split("/"):
        yield invalid(path, target, "must not contain '..'")


def _volume(volume: Object, path: str) -> Errors:
    sources = [source for source in _SOURCES if source in volume]
    for kind in sources[:1]:
        source, here = volume[kind], f"{path}.{kind}"
        yield from (required(f"{here}.{name}") for name in _SOURCES[kind] if not source.get(name))
        yield from _mode(source, "defaultMode", here)
        yield from _files(kind, source, here)
        if kind == "projected":
            yield from _projected(source, here)
    for extra in sources[1:]:
        yield forbidden(f"{path}.{extra}", "may not specify more than 1 volume type")


def _mode(source: Object, field: str, path: str) -> Errors:
    if not 0 <= (mode := source.get(field) or 0) <= 0o777:
        rule = "must be a number between 0 and 0777 (octal), both inclusive"
        yield invalid(f"{path}.{field}", mode, rule)


def _files(kind: str, source: Object, path: str) -> Errors:
    """Check the files of a Secret, a ConfigMap or the downward API, whose errors have no index."""
    downward = kind == "downwardAPI"
    for index, item in enumerate(source.get("items") or []):
        here = path if downward else f"{path}.items[{index}]"
        wanted = ("path",) if downward else ("key", "path")
        yield from (required(f"{here}.{name}") for name in wanted if not item.get(name))
        yield from _file(item.get("path", ""), f"{here}.path")
        yield from _mode(item, "mode", here)


def _file(target: str, path: str) -> Errors:
    """Check the path of a file that kubelet writes, whose own names begin with two dots."""
    yield from relative_path(target, path)
    if target.startswith("..") and ".." not in target.split("/"):
        yield invalid(path, target, "must not start with '..'")


def _projected(source: Object, path: str) -> Errors:
    seen: set[str] = set()
    for index, one in enumerate(source.get("sources") or []):
        for kind in ("secret", "configMap", "downwardAPI"):
            projection, here = one.get(kind), f"{path}.sources[{index}].{kind}"
            if projection is None:
                continue
            if kind != "downwardAPI" and not projection.get("name"):
                yield required(f"{here}.name")
            yield from _files(kind, projection, here)
            for item in projection.get("items") or []:
                if (target := item.get("path")) and target in seen:
                    yield invalid(
                        path, projection.get("name", target), "conflicting duplicate paths"
                    )
                seen.add(target)
        if token := one.get("serviceAccountToken"):
            here = f"{path}.sources[{index}].serviceAccountToken.expirationSeconds"
            if (seconds := token.get("expirationSeconds", _TOKEN_LEAST_S)) < _TOKEN_LEAST_S:
                yield invalid(here, seconds, "may not specify a duration less than 10 minutes")
            yield from _file(token.get("path", ""), f"{path}.path")
