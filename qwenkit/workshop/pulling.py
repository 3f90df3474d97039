"""Jobs that pull the server's image on each GPU node, before the first participant waits for it."""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.cluster.kinds import Obj, name_of
from qwenkit.parameters.pod_texts import parse_node_selector, parse_tolerations
from qwenkit.settings import Settings
from qwenkit.workshop.documents import document, logins

_KEPT_S, _DEADLINE_S = 86_400, 3600  # a Job is kept for a day, and may pull for an hour
_HOST = "kubernetes.io/hostname"


def gpu_nodes(nodes: Iterable[Obj], settings: Settings) -> list[Obj]:
    """Return the nodes whose GPUs the servers use."""
    wanted = parse_node_selector(settings.node_selector).items()
    return [
        node
        for node in nodes
        if int((node.get("status") or {}).get("allocatable", {}).get(settings.gpu_resource, 0))
        and wanted <= (node["metadata"].get("labels") or {}).items()
    ]


def pull_job(node: Obj, settings: Settings, namespace: str) -> Obj:
    """Return a Job that ends as soon as the image is on the node."""
    name = f"pull-{name_of(node)}"[:63].rstrip("-.").replace(".", "-")
    anywhere = {"key": settings.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}
    small = {"cpu": "10m", "memory": "32Mi"}
    container = {"name": "pull", "image": settings.image, "command": ["true"]}
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "nodeSelector": {_HOST: (node["metadata"].get("labels") or {}).get(_HOST, name_of(node))},
        "tolerations": [anywhere, *parse_tolerations(settings.tolerations)],
        "containers": [container | {"resources": {"requests": small, "limits": small}}],
        "imagePullSecrets": logins(settings),
    }
    limits = {"activeDeadlineSeconds": _DEADLINE_S, "ttlSecondsAfterFinished": _KEPT_S}
    spec = {"backoffLimit": 2, **limits, "template": {"spec": pod}}
    return document("batch/v1", "Job", name, namespace, spec=spec)
