"""What an update of a Knative object may not change."""

from __future__ import annotations

from qwenkit.admission.faults import Fault, Faults, Object, invalid, via
from qwenkit.admission.go_diff import changes
from qwenkit.admission.schema.knative import SPECS

_TEMPLATE = SPECS["Service"].fields["template"]
_CREATOR, _MODIFIER = "serving.knative.dev/creator", "serving.knative.dev/lastModifier"


def update_faults(obj: Object, old: Object, kind: str) -> Faults:
    """Compare an object with the stored one; both have their defaults."""
    spec, before = obj.get("spec", {}), old.get("spec", {})
    if kind == "Revision":
        if shown := "".join(changes(before, spec, "{v1.RevisionSpec}", SPECS["Revision"])):
            yield Fault("Immutable fields changed (-old +new)", ("spec",), shown)
        return
    if kind == "Service" or not obj.get("metadata", {}).get("ownerReferences"):
        yield from via(_users(obj, old), "metadata.annotations")
    if kind in ("Service", "Configuration"):
        renamed = _template(spec.get("template", {}), before.get("template", {}))
        yield from via(renamed, "spec.template")


def _users(obj: Object, old: Object) -> Faults:
    new, before = (each.get("metadata", {}).get("annotations", {}) for each in (obj, old))
    if new.get(_CREATOR, "") != before.get(_CREATOR, ""):
        yield Fault("annotation value is immutable", (_CREATOR,))
    same_spec = obj.get("spec", {}) == old.get("spec", {})
    if same_spec and new.get(_MODIFIER, "") != before.get(_MODIFIER, ""):
        yield invalid(new.get(_MODIFIER, ""), _MODIFIER)


def _template(new: Object, before: Object) -> Faults:
    name = new.get("metadata", {}).get("name", "")
    if not name or name != before.get("metadata", {}).get("name", ""):
        return
    if shown := "".join(changes(before, new, "{*v1.RevisionTemplateSpec}", _TEMPLATE)):
        message = "Saw the following changes without a name change (-old +new)"
        yield Fault(message, ("metadata.name",), shown)
