"""How Go's comparison shows what an update changes: by Go's names, in the order of Go's fields.

A whole struct that comes or goes (a probe, a volume) is shown as JSON: Go lists all of its fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

from qwenkit.admission.schema import quantities

# One order for all structs: wherever two fields meet in a struct of Go, they stand like this.
_ORDER = """
metadata spec name generateName namespace labels annotations image value valueFrom secretName key
path port command args workingDir ports envFrom env resources limits requests claimName readOnly
mountPath subPath volumes initContainers containers volumeMounts livenessProbe readinessProbe
startupProbe terminationMessagePath terminationMessagePolicy imagePullPolicy dnsPolicy nodeSelector
serviceAccountName automountServiceAccountToken hostNetwork hostPID hostIPC shareProcessNamespace
securityContext imagePullSecrets affinity schedulerName tolerations hostAliases priorityClassName
dnsConfig runtimeClassName enableServiceLinks topologySpreadConstraints capabilities privileged
runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation exec httpGet
tcpSocket grpc containerConcurrency initialDelaySeconds timeoutSeconds responseStartTimeoutSeconds
idleTimeoutSeconds periodSeconds successThreshold failureThreshold containerPort protocol items
defaultMode optional
"""
_RANK = {name: rank for rank, name in enumerate(_ORDER.split())}
_NAMES = {
    "configMap": "VolumeSource.ConfigMap",
    "csi": "VolumeSource.CSI",
    "dnsConfig": "DNSConfig",
    "dnsPolicy": "DNSPolicy",
    "emptyDir": "VolumeSource.EmptyDir",
    "ephemeral": "VolumeSource.Ephemeral",
    "exec": "ProbeHandler.Exec",
    "fsGroup": "FSGroup",
    "grpc": "ProbeHandler.GRPC",
    "hostPath": "VolumeSource.HostPath",
    "httpGet": "ProbeHandler.HTTPGet",
    "httpHeaders": "HTTPHeaders",
    "metadata": "ObjectMeta",
    "persistentVolumeClaim": "VolumeSource.PersistentVolumeClaim",
    "projected": "VolumeSource.Projected",
    "secret": "VolumeSource.Secret",
    "tcpSocket": "ProbeHandler.TCPSocket",
}
_REVISION_FIELDS = (
    "containerConcurrency",
    "idleTimeoutSeconds",
    "responseStartTimeoutSeconds",
    "timeoutSeconds",
)
_POINTERS = {
    *_REVISION_FIELDS,
    *("allowPrivilegeEscalation", "automountServiceAccountToken", "defaultMode"),
    *("enableServiceLinks", "fsGroup", "optional", "privileged", "readOnlyRootFilesystem"),
    *("runAsGroup", "runAsNonRoot", "runAsUser", "runtimeClassName", "shareProcessNamespace"),
}
_MAPS = ("annotations", "labels", "limits", "nodeSelector", "requests")
_ADDRESS = "0xc000012345"  # Go shows where a pointer points to, which nobody can know


def changes(before: Any, new: Any, path: str, field: str = "") -> Iterator[str]:
    """Show each change below ``path``: its place, then the old value, then the new one."""
    if before == new:
        return
    if field in _MAPS and before and new:
        yield from _map(before, new, path, field)
    elif isinstance(before, Mapping) and isinstance(new, Mapping):
        for key in sorted({*before, *new}, key=lambda key: (_RANK.get(key, len(_RANK)), key)):
            child = f"{path}.{_go_name(key, field)}"
            # A probe's timeout is a number, a revision's a pointer to one.
            inner = "probeTimeoutSeconds" if field.endswith("Probe") and "timeout" in key else key
            yield from changes(before.get(key), new.get(key), child, inner)
    elif isinstance(before, list) and isinstance(new, list) and before and new:
        yield from _list(before, new, path, field)
    elif field == "port":
        yield from _port(before, new, path)
    else:
        points = field in _POINTERS and before is not None and new is not None
        shown = (_shown(value, field, points=points) for value in (before, new))
        old_text, new_text = shown
        yield f"{'*' if points else ''}{path}:\n\t-: {old_text}\n\t+: {new_text}\n"


def _map(before: Mapping[str, Any], new: Mapping[str, Any], path: str, field: str) -> Iterator[str]:
    for key in sorted({*before, *new}):
        if before.get(key) != new.get(key):
            yield f'{path}["{key}"]:\n'
            for sign, side in (("-", before), ("+", new)):
                if key in side:
                    yield f"\t{sign}: {_shown(side[key], field)}\n"


def _list(before: list[Any], new: list[Any], path: str, field: str) -> Iterator[str]:
    old_texts, new_texts = (
        [json.dumps(item, sort_keys=True) for item in side] for side in (before, new)
    )
    steps = SequenceMatcher(None, old_texts, new_texts, autojunk=False).get_opcodes()
    for _, start, end, new_start, new_end in steps:
        both = min(end - start, new_end - new_start)
        for step in range(both):
            left, right = start + step, new_start + step
            where = f"[{left}]" if left == right else f"[{left}->{right}]"
            yield from changes(before[left], new[right], f"{path}{where}", f"{field}[]")
        for index in range(start + both, end):
            yield f"{path}[{index}->?]:\n\t-: {_shown(before[index], f'{field}[]')}\n"
        for index in range(new_start + both, new_end):
            yield f"{path}[?->{index}]:\n\t+: {_shown(new[index], f'{field}[]')}\n"


def _port(before: Any, new: Any, path: str) -> Iterator[str]:
    left, right = _int_or_string(before), _int_or_string(new)
    for name, old_value, new_value in zip(("Type", "IntVal", "StrVal"), left, right, strict=True):
        if old_value != new_value:
            yield f'{path}.{name}:\n\t-: "{old_value}"\n\t+: "{new_value}"\n'


def _int_or_string(port: int | str) -> tuple[int, int, str]:
    return (1, 0, port) if isinstance(port, str) else (0, port, "")


def _go_name(key: str, parent: str) -> str:
    name = _NAMES.get(key, key[:1].upper() + key[1:])
    if parent == "spec" and key not in _REVISION_FIELDS:
        return f"PodSpec.{name}"
    if key == "name" and parent.endswith(("Ref", "configMap", "secret")):
        return f"LocalObjectReference.{name}"
    return name


def _shown(value: Any, field: str, *, points: bool = False) -> str:
    if field in ("limits", "requests") and isinstance(value, str):
        return f'resource.Quantity: "{_quantity(value)}"'
    prefix = {"env[]": "v1.EnvVar: ", "ports[]": "v1.ContainerPort: "}.get(field, "")
    if field in _POINTERS and not points:
        return '"<nil>"' if value is None else f'"{_ADDRESS}"'
    return f'{prefix}"{_text(value, field)}"'


def _text(value: Any, field: str) -> str:
    if value is None:
        return _zero(field)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{' '.join(_text(item, f'{field}[]') for item in value)}]"
    if field in _MAPS and isinstance(value, Mapping):
        pairs = (f"{key}:{_entry(value[key], field)}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    if field == "env[]" and "valueFrom" not in value:
        return f"{{Name:{value['name']} Value:{value.get('value', '')} ValueFrom:nil}}"
    if field == "ports[]":
        name, number, protocol = value.get("name", ""), value["containerPort"], value["protocol"]
        return f"{{Name:{name} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:}}"
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def _entry(value: str, field: str) -> str:
    return _quantity(value) if field in ("limits", "requests") else value


def _zero(field: str) -> str:
    if field in _MAPS:
        return "map[]"
    if field.endswith(("Port", "Seconds", "Threshold")):
        return "0"
    if field in ("hostIPC", "hostNetwork", "hostPID", "readOnly"):
        return "false"
    if field.endswith(("Probe", "Context")) or field in _NAMES:
        return "nil"
    return "[]" if field in ("args", "command", "env", "envFrom") or field.endswith("s") else ""


def _quantity(text: str) -> str:
    value, scale = quantities.parse(text), 0
    while value.denominator != 1:
        value, scale = value * 1000, scale - 3
    form = "BinarySI" if text.endswith("i") else "DecimalSI"
    return f"{{i:{{value:{value} scale:{scale}}} d:{{Dec:<nil>}} s:{text} Format:{form}}}"
