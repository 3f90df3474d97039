"""LimitRange: what a container gets that states nothing, and the least and most that it may take.

The limits of whole pods and the ratio of limits to requests are not part of the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from qwenkit.admission.schema import quantities
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, at

_ANNOTATION = "kubernetes.io/limit-ranger"
_SIDES = (("requests", "defaultRequest", "request"), ("limits", "default", "limit"))


def complete(pod: Object, ranges: Iterable[Object]) -> bool:
    """Set the requests and limits that containers leave out; an annotation says so.

    Returns:
        Whether any was set.
    """
    said = []
    for item in _items(ranges, "Container"):
        for container in pod["spec"]["containers"]:
            for side, default, word in _SIDES:
                given = at(container, "resources", side) or {}
                if new := {k: v for k, v in item.get(default, {}).items() if k not in given}:
                    container.setdefault("resources", {})[side] = {**given, **new}
                    said.append(
                        f"{', '.join(sorted(new))} {word} for container {container['name']}"
                    )
    if said:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[_ANNOTATION] = f"LimitRanger plugin set: {'; '.join(said)}"
    return bool(said)


def broken(kind: ResourceKind, obj: Object, ranges: Iterable[Object]) -> Iterator[str]:
    """Yield the limits that a pod's containers or a claim break."""
    of = {"Pod": "Container", "PersistentVolumeClaim": kind.name}.get(kind.name, "")
    entries = obj["spec"]["containers"] if kind.name == "Pod" else [obj.get("spec")]
    for item in _items(ranges, of):
        for entry in entries:
            given = {word: at(entry, "resources", side) or {} for side, _, word in _SIDES}
            if kind.name != "Pod":
                del given["limit"]
            for bound, words in (("min", list(given)), ("max", [*given][::-1])):
                for name, value in item.get(bound, {}).items():
                    rule = f"{bound}imum {name} usage per {of} is {value}"
                    yield from _compared(rule, name, value, {word: given[word] for word in words})


def _items(ranges: Iterable[Object], kind: str) -> list[Object]:
    found = [item for one in ranges for item in at(one, "spec", "limits") or []]
    return [item for item in found if item.get("type") == kind]


def _compared(
    rule: str, name: str, value: object, given: Mapping[str, Mapping[str, object]]
) -> Iterator[str]:
    """Yield the first way in which what is given breaks a rule; its first side must be stated."""
    edge = quantities.parse(value)
    for position, (word, amounts) in enumerate(given.items()):
        amount = quantities.parse(amounts[name]) if name in amounts else None
        if amount is None and position == 0:
            yield f"{rule}.  No {word} is specified"
            return
        if amount is not None and (amount < edge if rule.startswith("min") else amount > edge):
            yield f"{rule}, but {word} is {amounts[name]}"
            return
