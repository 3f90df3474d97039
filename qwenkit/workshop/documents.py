"""Plain documents of Kubernetes objects, and of who may do what."""

from __future__ import annotations

from typing import Any

from qwenkit.cluster.kinds import Obj
from qwenkit.settings import Settings

GROUP = "rbac.authorization.k8s.io"


def document(version: str, kind: str, name: str, namespace: str = "", **more: Any) -> Obj:
    """Return an object; without ``namespace`` it is one of the cluster."""
    where = {"namespace": namespace} if namespace else {}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **where}, **more}


def rule(resources: str, verbs: str, *names: str, group: str = "") -> Obj:
    """Return a rule of a role: verbs on resources, each a list of words, or on some by name."""
    named = {"resourceNames": list(names)} if names else {}
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split(), **named}


def logins(settings: Settings) -> list[Obj]:
    """Return the references to the registry's login, if it needs one."""
    return [{"name": name} for name in [settings.image_pull_secret] if name]


def granted(role: str, rules: list[Obj], account: str, namespace: str, *, wide: bool) -> list[Obj]:
    """Return a role and its binding to an account: of the account's namespace, or ``wide``."""
    kind, where = ("ClusterRole", "") if wide else ("Role", namespace)
    made = document(f"{GROUP}/v1", kind, role, where, rules=rules)
    return [made, bound(made, role, account, namespace, where)]


def bound(role: Obj, name: str, account: str, home: str, where: str) -> Obj:
    """Return the binding of a role to an account of ``home``, in ``where`` (empty: everywhere)."""
    reference = {"apiGroup": GROUP, "kind": role["kind"], "name": role["metadata"]["name"]}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": home}
    kind = "RoleBinding" if where else "ClusterRoleBinding"
    return document(f"{GROUP}/v1", kind, name, where, roleRef=reference, subjects=[subject])
