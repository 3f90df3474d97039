"""The defaults of the spec of a pod, also in the template of a workload."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qwenkit.sandbox.kube.objects import Object

DEFAULT_GRACE_SECONDS = 30
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_FILE_MODE = 0o644


def fill(spec: Object) -> None:
    """Fill in the defaults, in place."""
    setdefaults(
        spec,
        {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": DEFAULT_GRACE_SECONDS,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "schedulerName": "default-scheduler",
        },
    )
    if account := spec.get("serviceAccountName"):
        spec.setdefault("serviceAccount", account)
    for container in [*_objects(spec, "initContainers"), *_objects(spec, "containers")]:
        _container(container)
    for volume in _objects(spec, "volumes"):
        _volume(volume)


def setdefaults(obj: Object, values: dict[str, Any]) -> Object:
    """Set what is missing; return ``obj``."""
    for key, value in values.items():
        obj.setdefault(key, value)
    return obj


def _objects(obj: Object, field: str) -> Iterator[Object]:
    return (item for item in obj.get(field) or [] if isinstance(item, dict))


def _container(container: Object) -> None:
    tag = str(container.get("image", "")).rpartition("/")[2]
    floating = "@" not in tag and (":" not in tag or tag.endswith(":latest"))
    setdefaults(
        container,
        {
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "Always" if floating else "IfNotPresent",
        },
    )
    if limits := container["resources"].get("limits"):
        setdefaults(container["resources"].setdefault("requests", {}), limits)
    for port in _objects(container, "ports"):
        port.setdefault("protocol", "TCP")
    for name in _PROBES:
        if isinstance(probe := container.get(name), dict):
            setdefaults(probe, _PROBE)
            if isinstance(get := probe.get("httpGet"), dict):
                setdefaults(get, {"path": "/", "scheme": "HTTP"})


def _volume(volume: Object) -> None:
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    for source in ("configMap", "downwardAPI", "projected", "secret"):
        if isinstance(volume.get(source), dict):
            volume[source].setdefault("defaultMode", _FILE_MODE)
    if isinstance(volume.get("hostPath"), dict):
        volume["hostPath"].setdefault("type", "")
