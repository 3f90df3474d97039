"""The keeper in the cluster: it goes on when the instructor's laptop goes away."""

from __future__ import annotations

from qwenkit.cluster.kinds import Obj
from qwenkit.settings import Settings
from qwenkit.workshop.documents import document, granted, rule
from qwenkit.workshop.names import KEEPER, WorkshopName

_RBAC = "rbac.authorization.k8s.io"
_LEASES, _KNATIVE = "coordination.k8s.io", "serving.knative.dev"


def keeper_objects(name: WorkshopName, settings: Settings) -> list[Obj]:
    """Return the Deployment of the image ``transfer_image``, its account, and its rights.

    It lists in all namespaces, and changes what is in those of the workshop.
    """
    space = name.namespace
    sees = [rule("pods configmaps resourcequotas", "list"), rule("leases", "list", group=_LEASES)]
    does = [
        rule("configmaps", "get create patch"),
        rule("resourcequotas", "get patch"),
        rule("pods", "delete"),
        rule("leases", "get create patch delete", group=_LEASES),
        rule("replicasets", "list patch", group="apps"),
        rule("services", "list", group=_KNATIVE),
        rule("revisions", "get patch", group=_KNATIVE),
    ]
    variables = {"QWENKIT_GPU": settings.gpu, "QWENKIT_GPU_RESOURCE": settings.gpu_resource}
    container = {
        "name": KEEPER,
        "image": settings.transfer_image,
        "command": ["qwenkit", "workshop", "keep"],
        "args": ["--name", name.name, "--context", "in-cluster"],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    labels = {"app": KEEPER}
    pod = {"serviceAccountName": KEEPER, "containers": [container]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return [
        document("v1", "ServiceAccount", KEEPER, space),
        *granted(f"{space}-{KEEPER}", sees, KEEPER, space, wide=True),
        document(f"{_RBAC}/v1", "ClusterRole", _acts(name), rules=does),
        may_act(name, space),
        document("apps/v1", "Deployment", KEEPER, space, spec=spec),
    ]


def may_act(name: WorkshopName, namespace: str) -> Obj:
    """Return the binding that lets the keeper act in a namespace of the workshop."""
    account = {"kind": "ServiceAccount", "name": KEEPER, "namespace": name.namespace}
    role = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": _acts(name)}
    head = f"{_RBAC}/v1"
    return document(head, "RoleBinding", KEEPER, namespace, roleRef=role, subjects=[account])


def _acts(name: WorkshopName) -> str:
    return f"{name.namespace}-{KEEPER}-acts"
