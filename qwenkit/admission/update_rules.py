"""What an update of a Knative object may not change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.admission.faults import Fault, invalid, via
from qwenkit.admission.go_diff import changes
from qwenkit.admission.schema.knative import SPECS

Object = Mapping[str, Any]
_TEMPLATE = SPECS["Service"].fields["template"]
_CREATOR, _MODIFIER = "serving.knative.dev/creator", "serving.knative.dev/lastModifier"


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
    shown = "".join(changes(before, new, "{*v1.RevisionTemplateSpec}", _TEMPLATE))
    message = "Saw the following changes without a name change (-old +new)"
    return [Fault(message, ("metadata.name",), shown)] if shown else []


def _unchanged(spec: Object, before: Object) -> list[Fault]:
    shown = "".join(changes(before, spec, "{v1.RevisionSpec}", SPECS["Revision"]))
    message = "Immutable fields changed (-old +new)"
    return [Fault(message, ("spec",), shown)] if shown else []
