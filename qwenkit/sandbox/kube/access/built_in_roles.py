"""The ClusterRoles and bindings that every cluster has, with Knative's part of them.

Shorter than the real ones: only for what the sandbox serves. ``admin``, ``edit`` and ``view``
hold what a real cluster aggregates into them.
"""

from __future__ import annotations

from qwenkit.sandbox.kube.access.users import AUTHENTICATED, MASTERS, UNAUTHENTICATED
from qwenkit.sandbox.kube.kinds import RBAC
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.store import ObjectStore

_READ = "get list watch"
_WRITE = "create delete deletecollection patch update"
_KNATIVE = "serving.knative.dev networking.internal.knative.dev autoscaling.internal.knative.dev"
_WRITTEN = (
    "configmaps events persistentvolumeclaims pods pods/proxy secrets serviceaccounts services "
    "services/proxy"
)
_WORKLOADS = "deployments deployments/scale replicasets replicasets/scale"
_PUBLIC = "/healthz /livez /readyz /version /version/"


def _rule(verbs: str, groups: str, resources: str) -> Object:
    words = {"verbs": verbs.split(), "resources": resources.split()}
    return words | {"apiGroups": [group.strip("'") for group in groups.split()]}


def _paths(paths: str) -> Object:
    return {"verbs": ["get"], "nonResourceURLs": paths.split()}


_VIEW = [
    _rule(
        _READ,
        "''",
        "configmaps endpoints events namespaces persistentvolumeclaims pods pods/log pods/status "
        "serviceaccounts services services/status",
    ),
    _rule(_READ, "apps", _WORKLOADS),
    _rule(_READ, "batch", "jobs jobs/status"),
    _rule(_READ, _KNATIVE, "*"),
]
_EDIT = [
    *_VIEW,
    _rule(f"{_READ} {_WRITE}", "''", _WRITTEN),
    _rule("create", "''", "serviceaccounts/token"),
    _rule("impersonate", "''", "serviceaccounts"),
    _rule(_WRITE, "apps", _WORKLOADS),
    _rule(_WRITE, "batch", "jobs"),
    _rule(_WRITE, _KNATIVE, "*"),
]
_ROLES = {
    "cluster-admin": [_rule("*", "*", "*"), {"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "admin": [*_EDIT, _rule(f"{_READ} {_WRITE}", RBAC, "roles rolebindings")],
    "edit": _EDIT,
    "view": _VIEW,
    "system:basic-user": [
        _rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        _rule("create", "authentication.k8s.io", "selfsubjectreviews"),
    ],
    "system:discovery": [_paths(f"{_PUBLIC} /api /api/* /apis /apis/* /openapi /openapi/*")],
    "system:public-info-viewer": [_paths(_PUBLIC)],
}
_BOUND = {
    "cluster-admin": [MASTERS],
    "system:basic-user": [AUTHENTICATED],
    "system:discovery": [AUTHENTICATED],
    "system:public-info-viewer": [AUTHENTICATED, UNAUTHENTICATED],
}


def ensure_roles(store: ObjectStore) -> None:
    """Create the roles and bindings that are not in the store."""
    for name, rules in _ROLES.items():
        if store.find("ClusterRole", None, name) is None:
            store.create("ClusterRole", {"metadata": {"name": name}, "rules": rules})
    for name, groups in _BOUND.items():
        if store.find("ClusterRoleBinding", None, name) is None:
            subjects = [{"kind": "Group", "apiGroup": RBAC, "name": group} for group in groups]
            role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
            body = {"metadata": {"name": name}, "subjects": subjects, "roleRef": role}
            store.create("ClusterRoleBinding", body)
