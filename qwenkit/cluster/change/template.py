"""How two templates of a Service differ: for people, and as a merge patch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qwenkit.cluster.kinds import Obj, annotations_of, labels_of
from qwenkit.errors.scrubbing import scrub

# People know these by the name alone.
_KNOWN = re.compile(r"^(metadata\.)?annotations\.|^metadata\.|^spec\.")
_KNATIVE = "serving.knative.dev/"
# What Knative adds to a revision's annotations; its labels all have that prefix.
_ADDED = {_KNATIVE + n for n in ("creator", "lastModifier", "routes", "routingStateModified")}
_FLAGS = re.compile(r"--[\w-]+(?:[ =](?![-&])\S+)?|\S+")


@dataclass(frozen=True)
class SettingChange:
    """One setting of the template, before and after; None where it is not set.

    Of a command line only the flags that differ are in it.
    """

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        before, after = ("unset" if v is None else v for v in (self.before, self.after))
        return f"{self.name}: {before} → {after}"


def difference(before: Obj, after: Obj) -> tuple[SettingChange, ...]:
    """Return what differs between two templates, by the settings' names."""
    old, new = dict(_flat(before)), dict(_flat(after))
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return tuple(_change(name, old.get(name), new.get(name)) for name in names)


def patch_between(before: Obj, after: Obj) -> Obj:
    """Return the merge patch that turns one object into the other."""
    patch: Obj = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        old = before.get(key)
        if old != value:
            deep = isinstance(old, dict) and isinstance(value, dict)
            patch[key] = patch_between(dict(old or {}), value) if deep else value
    return patch


def template_of(revision: Obj) -> Obj:
    """Return the template that a revision was made from, without what Knative adds to it."""
    annotations = {k: v for k, v in annotations_of(revision).items() if k not in _ADDED}
    labels = {k: v for k, v in labels_of(revision).items() if not k.startswith(_KNATIVE)}
    named = {"annotations": annotations, "labels": labels}
    return {"metadata": {k: v for k, v in named.items() if v}, "spec": revision["spec"]}


def _flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield the settings of an object, each by its path."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        for number, each in enumerate(value):
            name = each.get("name", number)
            yield from _flat({k: v for k, v in each.items() if k != "name"}, f"{path}[{name}]")
    elif value not in ({}, []) and (value, type(value)) != (0, int):  # as Go's omitempty
        yield _KNOWN.sub("", path), value


def _change(name: str, before: object, after: object) -> SettingChange:
    texts = [None if v is None else scrub(_text(v)) for v in (before, after)]
    old, new = texts
    if old and new and ("--" in old or "--" in new):
        words = [_FLAGS.findall(text) for text in (old, new)]
        only = [[w for w in words[i] if w not in words[1 - i]] for i in (0, 1)]
        if any(only):
            old, new = (" ".join(each) or None for each in only)
    return SettingChange(name, old, new)


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
