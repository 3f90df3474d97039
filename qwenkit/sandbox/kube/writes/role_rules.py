"""What the API server refuses in roles and their bindings."""

from __future__ import annotations

import json

from qwenkit.admission.field_errors import Errors, invalid, required, unsupported
from qwenkit.sandbox.kube.kinds import RBAC
from qwenkit.sandbox.kube.objects import Object

_SUBJECTS = {"Group": RBAC, "ServiceAccount": "", "User": RBAC}


def path_segment(value: str, *, unit: str) -> list[str]:
    """Check the name of a role or binding, which may be anything that fits in a path."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{one}'" for one in "/%" if one in value]


def role(obj: Object) -> Errors:
    """Check the rules of a Role or ClusterRole."""
    for position, rule in enumerate(obj.get("rules") or []):
        field, urls = f"rules[{position}]", rule.get("nonResourceURLs")
        if not rule.get("verbs"):
            yield required(f"{field}.verbs", "verbs must contain at least one value")
        if urls:
            why = "namespaced rules cannot apply to non-resource URLs"
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                why = "rules cannot apply to both regular resources and non-resource URLs"
            elif not obj["metadata"].get("namespace"):
                continue
            yield invalid(f"{field}.nonResourceURLs", json.dumps(urls), why)
        else:
            for name, what in (("apiGroups", "api group"), ("resources", "resource")):
                if not rule.get(name):
                    why = f"resource rules must supply at least one {what}"
                    yield required(f"{field}.{name}", why)


def binding(obj: Object) -> Errors:
    """Check a RoleBinding or ClusterRoleBinding."""
    ref = obj.get("roleRef") or {}
    kinds = ("ClusterRole", "Role") if obj["metadata"].get("namespace") else ("ClusterRole",)
    if ref.get("apiGroup") != RBAC:
        yield unsupported("roleRef.apiGroup", ref.get("apiGroup", ""), (RBAC,))
    if ref.get("kind") not in kinds:
        yield unsupported("roleRef.kind", ref.get("kind", ""), kinds)
    if not ref.get("name"):
        yield required("roleRef.name")
    for position, subject in enumerate(obj.get("subjects") or []):
        field, kind = f"subjects[{position}]", subject.get("kind", "")
        if not subject.get("name"):
            yield required(f"{field}.name")
        if kind not in _SUBJECTS:
            yield unsupported(f"{field}.kind", kind, sorted(_SUBJECTS))
        elif subject.get("apiGroup", "") != _SUBJECTS[kind]:
            yield unsupported(f"{field}.apiGroup", subject.get("apiGroup", ""), [_SUBJECTS[kind]])
        if kind == "ServiceAccount" and not subject.get("namespace"):
            yield required(f"{field}.namespace")


def fixed_role(obj: Object, old: Object) -> Errors:
    """A binding keeps its role."""
    if obj.get("roleRef") != old.get("roleRef"):
        yield invalid("roleRef", json.dumps(obj.get("roleRef")), "cannot change roleRef")
