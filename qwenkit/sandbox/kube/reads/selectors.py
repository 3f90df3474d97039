"""Label and field selectors, as the query strings ``labelSelector`` and ``fieldSelector``."""

from __future__ import annotations

import re
from collections.abc import Callable

from qwenkit.sandbox.kube.api_error import bad_request
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, at

Predicate = Callable[[Object], bool]

_KEY = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE = r"[-A-Za-z0-9_.]*"
_SET = re.compile(rf"(?P<key>{_KEY})\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL = re.compile(rf"(?P<key>{_KEY})\s*(?P<op>==|=|!=)\s*(?P<value>{_VALUE})")
_EXISTS = re.compile(rf"(?P<not>!?)\s*(?P<key>{_KEY})")
_SPLIT = re.compile(r",(?![^(]*\))")

_EVENT_FIELDS = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_FIELDS = {
    "Pod": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    ),
    "Event": (
        *(f"involvedObject.{field}" for field in _EVENT_FIELDS),
        "reason",
        "type",
        "reportingComponent",
    ),
    "Secret": ("type",),
    "Namespace": ("status.phase",),
}


def by_labels(text: str) -> Predicate:
    """Parse a label selector.

    Raises:
        ApiError: 400, it is no selector.
    """
    tests = [_requirement(part.strip()) for part in _SPLIT.split(text) if part.strip()]
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def by_fields(text: str, kind: ResourceKind) -> Predicate:
    """Parse a field selector of a kind.

    Raises:
        ApiError: 400, it is no selector or this kind cannot be selected by that field.
    """
    pairs = [_field(part.strip(), text, kind) for part in text.split(",") if part.strip()]
    return lambda obj: all(
        (str(at(obj, *path) or "") == value) is equal for path, value, equal in pairs
    )


def _requirement(text: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET.fullmatch(text):
        key, positive = found["key"], found["op"] == "in"
        values = {value.strip() for value in found["values"].split(",")}
        return lambda labels: (labels.get(key) in values) is positive
    if found := _EQUAL.fullmatch(text):
        key, positive, value = found["key"], found["op"] != "!=", found["value"]
        return lambda labels: (labels.get(key) == value) is positive
    if found := _EXISTS.fullmatch(text):
        key, positive = found["key"], not found["not"]
        return lambda labels: (key in labels) is positive
    raise bad_request(f'unable to parse requirement: "{text}" is no label requirement')


def _field(text: str, whole: str, kind: ResourceKind) -> tuple[tuple[str, ...], str, bool]:
    name, operator, value = re.fullmatch(r"([^=!]*)(==|=|!=)?(.*)", text).groups()  # type: ignore[union-attr]
    if operator is None:
        raise bad_request(f'invalid selector: "{whole}"; can\'t understand "{text}"')
    if name not in ("metadata.name", "metadata.namespace", *_FIELDS.get(kind.name, ())):
        raise bad_request(f"field label not supported: {name}")
    return tuple(name.split(".")), value, operator != "!="
