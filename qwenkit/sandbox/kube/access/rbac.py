"""Role-based access control: the rules that bindings grant a user, and what they allow."""

from __future__ import annotations

from dataclasses import dataclass, field

from qwenkit.sandbox.kube.access.attributes import Attributes
from qwenkit.sandbox.kube.access.users import MASTERS, User, account_name
from qwenkit.sandbox.kube.kinds import RBAC
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.store import ObjectStore


@dataclass
class Granted:
    """A user's rules in one place, each with the binding it is from; and roles that are missing."""

    rules: list[tuple[Object, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def problem(self) -> str:
        """What could not be found, as the API server reports it."""
        if not self.missing:
            return ""
        found = "[{}]" if len(self.missing) > 1 else "{}"
        return "RBAC: " + found.format(", ".join(self.missing))


class Authorizer:
    """Decides by the Roles, ClusterRoles and bindings of the cluster."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def check(self, user: User, asked: Attributes) -> None:
        """Let a request pass.

        Raises:
            ApiError: 403, no rule allows it.
        """
        allowed, why = self.decide(user, asked)
        if not allowed:
            raise asked.forbidden(user.name, why)

    def decide(self, user: User, asked: Attributes) -> tuple[bool, str]:
        """Return whether a rule allows it, and by which binding, or which roles are missing."""
        if MASTERS in user.groups:
            return True, ""
        granted = self.granted(user, asked.namespace)
        for rule, binding in granted.rules:
            if _allows(rule, asked):
                return True, f"RBAC: allowed by {binding}"
        return False, granted.problem

    def granted(self, user: User, namespace: str) -> Granted:
        """Return a user's rules in a namespace, or for the whole cluster (an empty namespace)."""
        granted = Granted()
        bindings = self._store.list("ClusterRoleBinding")
        if namespace:
            bindings += self._store.list("RoleBinding", namespace)
        for binding in bindings:
            if subject := _subject(binding, user):
                self._add(granted, binding, subject)
        return granted

    def _add(self, granted: Granted, binding: Object, subject: str) -> None:
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        space = binding["metadata"].get("namespace")
        role = self._store.find(kind, space if kind == "Role" else None, name)
        if role is None:
            granted.missing.append(f'{kind.lower()}.{RBAC} "{name}" not found')
            return
        own = binding["metadata"]["name"] + (f"/{space}" if space else "")
        bound = "RoleBinding" if space else "ClusterRoleBinding"
        binding_text = f'{bound} "{own}" of {kind} "{name}" to {subject}'
        granted.rules += [(rule, binding_text) for rule in role.get("rules") or []]


def _subject(binding: Object, user: User) -> str:
    """Return which subject of a binding the user is, or nothing."""
    for subject in binding.get("subjects") or []:
        kind, name = subject["kind"], subject["name"]
        if kind == "ServiceAccount":
            space = subject.get("namespace") or binding["metadata"].get("namespace", "")
            if user.name == account_name(space, name):
                return f'{kind} "{name}/{space}"'
        elif name in (user.groups if kind == "Group" else (user.name,)):
            return f'{kind} "{name}"'
    return ""


def _allows(rule: Object, asked: Attributes) -> bool:
    if not _has(rule, "verbs", asked.verb):
        return False
    if not asked.resource:
        return any(_covers(url, asked.path) for url in rule.get("nonResourceURLs") or [])
    resources = {asked.full_resource, f"*/{asked.subresource}"}
    names = rule.get("resourceNames") or [asked.name]
    return (
        _has(rule, "apiGroups", asked.group)
        and any(_has(rule, "resources", one) for one in resources)
        and asked.name in names
    )


def _has(rule: Object, field_name: str, value: str) -> bool:
    return bool({"*", value} & set(rule.get(field_name) or []))


def _covers(url: str, path: str) -> bool:
    return path.startswith(url[:-1]) if url.endswith("*") else path == url
