"""What an update of a Knative object may not change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qwenkit.manifests.faults import Fault, invalid, via

Object = Mapping[str, Any]
_CREATOR, _MODIFIER = "serving.knative.dev/creator", "serving.knative.dev/lastModifier"
_REVISION_FIELDS = (
    "containerConcurrency",
    "idleTimeoutSeconds",
    "responseStartTimeoutSeconds",
    "timeoutSeconds",
)


def update_faults(obj: Object, old: Object, kind: str) -> list[Fault]:
    """Compare an object with the stored one; both with their defaults."""
    spec, before = obj.get("spec", {}), old.get("spec", {})
    if kind == "Revision":
        return _unchanged(spec, before)
    found: list[Fault] = []
    if kind == "Service" or not obj.get("metadata", {}).get("ownerReferences"):
        found += via(_users(obj, old), "metadata.annotations")
    if kind in ("Service", "Configuration"):
        renamed = _template(spec.get("template", {}), before.get("template", {}))
        found += via(renamed, "spec.template")
    return found


def _users(obj: Object, old: Object) -> list[Fault]:
    new, before = (each.get("metadata", {}).get("annotations", {}) for each in (obj, old))
    found = []
    if new.get(_CREATOR, "") != before.get(_CREATOR, ""):
        found.append(Fault("annotation value is immutable", (_CREATOR,)))
    same_spec = obj.get("spec", {}) == old.get("spec", {})
    if same_spec and new.get(_MODIFIER, "") != before.get(_MODIFIER, ""):
        found.append(invalid(new.get(_MODIFIER, ""), _MODIFIER))
    return found


def _template(new: Object, before: Object) -> list[Fault]:
    name = new.get("metadata", {}).get("name", "")
    if not name or name != before.get("metadata", {}).get("name", ""):
        return []
    changes = _shown(new, before, "{*v1.RevisionTemplateSpec}")
    message = "Saw the following changes without a name change (-old +new)"
    return [Fault(message, ("metadata.name",), changes)] if changes else []


def _unchanged(spec: Object, before: Object) -> list[Fault]:
    changes = "".join(_lines(before, spec, "{v1.RevisionSpec}"))
    message = "Immutable fields changed (-old +new)"
    return [Fault(message, ("spec",), changes)] if changes else []


def _shown(new: Object, before: Object, root: str) -> str:
    metadata = _lines(before.get("metadata", {}), new.get("metadata", {}), f"{root}.ObjectMeta")
    spec = _lines(before.get("spec", {}), new.get("spec", {}), f"{root}.Spec")
    return "".join((*metadata, *spec))


def _lines(before: Any, new: Any, path: str) -> Iterator[str]:
    """Print each change as Go's comparison does: its path, the old value, the new one."""
    if before == new:
        return
    if isinstance(before, dict) and isinstance(new, dict):
        for key in sorted({*before, *new}):
            yield from _lines(before.get(key), new.get(key), _child(path, key))
    elif isinstance(before, list) and isinstance(new, list) and len(before) == len(new):
        for index, (left, right) in enumerate(zip(before, new, strict=True)):
            yield from _lines(left, right, f"{path}[{index}]")
    else:
        pointer = "*" if path.rsplit(".", 1)[-1] in _POINTERS else ""
        values = f'\t-: "{_text(before)}"\n\t+: "{_text(new)}"\n'
        yield f"{pointer}{path}:\n{values}"


_POINTERS = {name[0].upper() + name[1:] for name in _REVISION_FIELDS}


def _child(path: str, key: str) -> str:
    if path.endswith(("Annotations", "Labels", "Limits", "Requests", "NodeSelector")):
        return f'{path}["{key}"]'
    in_revision = path.endswith((".Spec", "{v1.RevisionSpec}"))
    pod = ".PodSpec" if in_revision and key not in _REVISION_FIELDS else ""
    return f"{path}{pod}.{key[:1].upper()}{key[1:]}"


def _text(value: object) -> str:
    return "" if value is None else str(value)
