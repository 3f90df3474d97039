"""What the API server refuses in roles and their bindings."""

from __future__ import annotations

import json

from qwenkit.admission.field_errors import Errors, invalid, required, unsupported
from qwenkit.sandbox.kube.kinds import RBAC
from qwenkit.sandbox.kube.objects import Object

KINDS = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
_GROUPS = {"Group": RBAC, "ServiceAccount": "", "User": RBAC}


def path_segment(value: str, *, unit: str) -> list[str]:
    """Check the name of a role or binding, which may be anything that fits in a path."""
    return [f"may not contain '{one}'" for one in "/%" if one in value]


def role(obj: Object) -> Errors:
    """Check the rules of a Role or ClusterRole."""
    for position, rule in enumerate(obj.get("rules") or []):
        field = f"rules[{position}]"
        if not rule.get("verbs"):
            yield required(f"{field}.verbs", "verbs must contain at least one value")
        if urls := rule.get("nonResourceURLs"):
            if obj["metadata"].get("namespace"):
                why = "namespaced rules cannot apply to non-resource URLs"
                yield invalid(f"{field}.nonResourceURLs", urls, why)
            continue
        for name, what in (("apiGroups", "api group"), ("resources", "resource")):
            if not rule.get(name):
                yield required(f"{field}.{name}", f"resource rules must supply at least one {what}")


def binding(obj: Object) -> Errors:
    """Check a RoleBinding or ClusterRoleBinding."""
    ref = obj.get("roleRef") or {}
    kinds = ("ClusterRole", "Role") if obj["metadata"].get("namespace") else ("ClusterRole",)
    if ref.get("kind") not in kinds:
        yield unsupported("roleRef.kind", ref.get("kind", ""), kinds)
    if not ref.get("name"):
        yield required("roleRef.name")
    for position, subject in enumerate(obj.get("subjects") or []):
        field, kind, group = f"subjects[{position}]", subject.get("kind"), subject.get("apiGroup")
        if not subject.get("name"):
            yield required(f"{field}.name")
        if kind not in _GROUPS:
            yield unsupported(f"{field}.kind", kind or "", sorted(_GROUPS))
        elif (group or "") != _GROUPS[kind]:
            yield unsupported(f"{field}.apiGroup", group or "", [_GROUPS[kind]])


def fixed_role(obj: Object, old: Object) -> Errors:
    """Refuse another role in a binding."""
    if obj.get("roleRef") != old.get("roleRef"):
        yield invalid("roleRef", json.dumps(obj.get("roleRef")), "cannot change roleRef")
