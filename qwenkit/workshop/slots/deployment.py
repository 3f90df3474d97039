"""The keeper in the cluster: it goes on when the instructor's laptop goes away."""

from __future__ import annotations

from collections.abc import Sequence

from qwenkit.cluster.kinds import Obj
from qwenkit.settings import Settings
from qwenkit.workshop.documents import GROUP, bound, document, granted, logins, rule
from qwenkit.workshop.names import KEEPER, WorkshopName

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
        document("v1", "ServiceAccount", KEEPER, space, imagePullSecrets=logins(settings)),
        *granted(f"{space}-{KEEPER}", sees, KEEPER, space, wide=True),
        _acts(name, does),
        may_act(name, space),
        document("apps/v1", "Deployment", KEEPER, space, spec=spec),
    ]


def may_act(name: WorkshopName, namespace: str) -> Obj:
    """Return the binding that lets the keeper act in a namespace of the workshop."""
    return bound(_acts(name), KEEPER, KEEPER, name.namespace, namespace)


def _acts(name: WorkshopName, rules: Sequence[Obj] = ()) -> Obj:
    return document(f"{GROUP}/v1", "ClusterRole", f"{name.namespace}-{KEEPER}-acts", rules=[*rules])
