"""A CronJob that removes a workshop after its end, whatever became of the instructor's laptop."""

from __future__ import annotations

from qwenkit.cluster.kinds import Obj
from qwenkit.in_cluster.manifest import require_image
from qwenkit.settings import Settings
from qwenkit.workshop.names import WorkshopName

_NAME, _EVERY = "cleaner", "*/10 * * * *"
_RBAC = "rbac.authorization.k8s.io"
_VERBS = ["get", "list", "delete"]


def cleaner(settings: Settings, name: WorkshopName) -> list[Obj]:
    """Return the CronJob that runs ``teardown --expired``, with an account that may just do that.

    Raises:
        SettingsError: no image is set that has qwenkit in it.
    """
    space, wide = name.namespace, f"{name.namespace}-{_NAME}"
    env = {"QWENKIT_CONTEXT": "in-cluster", "QWENKIT_NAMESPACE": space}
    pod = {
        "serviceAccountName": _NAME,
        "restartPolicy": "Never",
        "containers": [
            {
                "name": _NAME,
                "image": require_image(settings),
                "command": ["qwenkit", "teardown", "--expired"],
                "env": [{"name": key, "value": value} for key, value in env.items()],
            }
        ],
    }
    job = {"backoffLimit": 0, "template": {"spec": pod}}
    spec = {"schedule": _EVERY, "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job}}
    reference = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": wide}
    subject = {"kind": "ServiceAccount", "name": _NAME, "namespace": space}
    here, everywhere = {"name": _NAME, "namespace": space}, {"name": wide}
    rules = [
        {"apiGroups": [""], "resources": ["namespaces", "persistentvolumes"], "verbs": _VERBS},
        {
            "apiGroups": [_RBAC],
            "resources": ["clusterroles", "clusterrolebindings"],
            "verbs": _VERBS,
        },
    ]
    role, binding = {"rules": rules}, {"roleRef": reference, "subjects": [subject]}
    version = f"{_RBAC}/v1"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        {"apiVersion": version, "kind": "ClusterRole", "metadata": everywhere} | role,
        {"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": everywhere} | binding,
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": here, "spec": spec},
    ]
