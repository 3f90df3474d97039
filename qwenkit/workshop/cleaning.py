"""A CronJob that removes a workshop after its end, whatever became of the instructor's laptop."""

from __future__ import annotations

from qwenkit.cluster.kinds import Obj
from qwenkit.in_cluster.manifest import require_image
from qwenkit.settings import Settings
from qwenkit.workshop.documents import document, granted, logins, rule
from qwenkit.workshop.names import WorkshopName

_NAME, _EVERY = "cleaner", "*/10 * * * *"
_REMOVES = [
    rule("namespaces persistentvolumes", "get list delete"),
    rule("clusterroles clusterrolebindings", "get list delete", group="rbac.authorization.k8s.io"),
]


def cleaner(settings: Settings, name: WorkshopName) -> list[Obj]:
    """Return the CronJob that runs ``teardown --expired``, with an account that may just do that.

    Raises:
        SettingsError: no image is set that has qwenkit in it.
    """
    space = name.namespace
    env = {"QWENKIT_CONTEXT": "in-cluster", "QWENKIT_NAMESPACE": space}
    container = {
        "name": _NAME,
        "image": require_image(settings),
        "command": ["qwenkit", "teardown", "--expired"],
        "env": [{"name": key, "value": value} for key, value in env.items()],
    }
    pod = {"serviceAccountName": _NAME, "restartPolicy": "Never", "containers": [container]}
    job = {"spec": {"backoffLimit": 0, "template": {"spec": pod}}}
    spec = {"schedule": _EVERY, "concurrencyPolicy": "Forbid", "jobTemplate": job}
    return [
        document("v1", "ServiceAccount", _NAME, space, imagePullSecrets=logins(settings)),
        *granted(f"{space}-{_NAME}", _REMOVES, _NAME, space, wide=True),
        document("batch/v1", "CronJob", _NAME, space, spec=spec),
    ]
