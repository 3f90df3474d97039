"""The shape of objects: which fields a kind declares, and which lists merge by key.

Knative's resources follow their CRDs: unknown fields are pruned, ``containers`` is one atomic
list, ``env`` and ``volumes`` merge by key. The built-in kinds that every deployment of the course
writes declare their fields here, the others in ``builtin``; all of them know their keyed lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.sandbox.kube.kinds import Kind
from qwenkit.sandbox.kube.schema import builtin

# A dict declares an object's fields, a one-item list a list's items, None anything at all.
Schema = Mapping[str, Any] | list[Any] | None
SET = ("",)


def _fields(leaves: str = "", **nested: Any) -> dict[str, Any]:
    return dict.fromkeys(leaves.split()) | nested


_PROBE = _fields(
    "failureThreshold initialDelaySeconds periodSeconds successThreshold timeoutSeconds",
    exec=_fields("command"),
    grpc=_fields("port service"),
    httpGet=_fields("host path port scheme", httpHeaders=[_fields("name value")]),
    tcpSocket=_fields("host port"),
)
_KEY_REF = _fields("key name optional")
_CONTAINER = _fields(
    "args command image imagePullPolicy name terminationMessagePath terminationMessagePolicy "
    "workingDir",
    env=[
        _fields(
            "name value",
            valueFrom=_fields(
                "fieldRef resourceFieldRef", configMapKeyRef=_KEY_REF, secretKeyRef=_KEY_REF
            ),
        )
    ],
    envFrom=[
        _fields("prefix", configMapRef=_fields("name optional"), secretRef=_fields("name optional"))
    ],
    livenessProbe=_PROBE,
    ports=[_fields("containerPort name protocol")],
    readinessProbe=_PROBE,
    resources=_fields("limits requests"),
    securityContext=_fields(
        "allowPrivilegeEscalation privileged readOnlyRootFilesystem runAsGroup runAsNonRoot "
        "runAsUser",
        capabilities=_fields("add drop"),
        seccompProfile=_fields("localhostProfile type"),
    ),
    startupProbe=_PROBE,
    volumeMounts=[_fields("mountPath mountPropagation name readOnly subPath")],
)
_ITEMS = [_fields("key mode path")]
_REVISION = _fields(
    "affinity automountServiceAccountToken containerConcurrency dnsConfig dnsPolicy "
    "enableServiceLinks hostAliases hostIPC hostNetwork hostPID idleTimeoutSeconds "
    "initContainers nodeSelector priorityClassName responseStartTimeoutSeconds runtimeClassName "
    "schedulerName securityContext serviceAccountName shareProcessNamespace timeoutSeconds "
    "tolerations topologySpreadConstraints",
    containers=[_CONTAINER],
    imagePullSecrets=[_fields("name")],
    volumes=[
        _fields(
            "csi emptyDir ephemeral hostPath image name persistentVolumeClaim",
            configMap=_fields("defaultMode name optional", items=_ITEMS),
            projected=_fields("defaultMode sources"),
            secret=_fields("defaultMode optional secretName", items=_ITEMS),
        )
    ],
)
_TRAFFIC = [_fields("configurationName latestRevision percent revisionName tag url")]
_TEMPLATE = _fields("metadata", spec=_REVISION)
_SECRET_REF = _fields("name namespace")
_SPECS: dict[str, Any] = {
    "KnativeService": _fields(template=_TEMPLATE, traffic=_TRAFFIC),
    "Configuration": _fields(template=_TEMPLATE),
    "Revision": _REVISION,
    "Route": _fields(traffic=_TRAFFIC),
    "PersistentVolume": _fields(
        "accessModes awsElasticBlockStore azureDisk azureFile capacity cephfs cinder claimRef fc "
        "flexVolume flocker gcePersistentDisk glusterfs hostPath iscsi local mountOptions nfs "
        "nodeAffinity persistentVolumeReclaimPolicy photonPersistentDisk portworxVolume quobyte "
        "rbd scaleIO storageClassName storageos volumeAttributesClassName volumeMode vsphereVolume",
        csi=_fields(
            "driver fsType readOnly volumeAttributes volumeHandle",
            controllerExpandSecretRef=_SECRET_REF,
            controllerPublishSecretRef=_SECRET_REF,
            nodeExpandSecretRef=_SECRET_REF,
            nodePublishSecretRef=_SECRET_REF,
            nodeStageSecretRef=_SECRET_REF,
        ),
    ),
    "PersistentVolumeClaim": _fields(
        "accessModes dataSource dataSourceRef storageClassName volumeAttributesClassName "
        "volumeMode volumeName",
        resources=_fields("limits requests"),
        selector=_fields("matchExpressions matchLabels"),
    ),
}
_METADATA = _fields(
    "annotations creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers "
    "generateName generation labels managedFields name namespace ownerReferences "
    "resourceVersion selfLink uid"
)
_SCHEMAS: dict[str, Mapping[str, Any]] = {
    **{
        name: _fields("apiVersion kind status", metadata=_METADATA, spec=spec)
        for name, spec in _SPECS.items()
    },
    "Secret": _fields("apiVersion kind data immutable stringData type", metadata=_METADATA),
    "ConfigMap": _fields("apiVersion kind binaryData data immutable", metadata=_METADATA),
}

_EVERYWHERE = {"finalizers": SET, "ownerReferences": ("uid",)}
_CUSTOM_LISTS = _EVERYWHERE | {
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_BUILTIN_LISTS = _CUSTOM_LISTS | {
    "conditions": ("type",),
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "ports": ("containerPort", "protocol"),
    "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeDevices": ("devicePath",),
}
# References and selectors change as a whole.
_ATOMIC_MAPS = _fields(
    "configMapKeyRef configMapRef controllerExpandSecretRef controllerPublishSecretRef fieldRef "
    "nodeExpandSecretRef nodePublishSecretRef nodeSelector nodeStageSecretRef objectRef "
    "resourceFieldRef scaleTargetRef secretKeyRef secretRef selector"
)


def list_keys(kind: Kind, field: str) -> tuple[str, ...] | None:
    """Return the keys by which a list merges; ``SET`` for a set of scalars; None if atomic."""
    if kind.name == "Service" and field == "ports":
        return ("port", "protocol")
    return (_CUSTOM_LISTS if kind.custom else _BUILTIN_LISTS).get(field)


def is_atomic_map(field: str) -> bool:
    """Whether the map under a field of this name has one owner."""
    return field in _ATOMIC_MAPS


def fields_of(kind: Kind) -> Mapping[str, Any] | None:
    """Return the fields that a kind declares, or None: anything goes."""
    if kind.name in _SCHEMAS or kind.custom:
        return _SCHEMAS.get(kind.name)
    return builtin.declared(builtin.model_of(kind))


def is_declared_elsewhere(kind: Kind) -> bool:
    """Whether ``fields_of`` needs the models of ``builtin``, which are slow to import."""
    return not kind.custom and kind.name not in _SCHEMAS


def prune(kind: Kind, obj: dict[str, Any]) -> list[str]:
    """Remove undeclared fields in place; return their paths, e.g. ``spec.containers[0].imge``."""
    return _prune(fields_of(kind), obj, "")


def _prune(schema: Schema, value: Any, path: str) -> list[str]:
    if isinstance(schema, list) and isinstance(value, list):
        return [
            found
            for position, item in enumerate(value)
            for found in _prune(schema[0], item, f"{path}[{position}]")
        ]
    if not isinstance(schema, Mapping) or not isinstance(value, dict):
        return []
    unknown: list[str] = []
    for field in list(value):
        here = f"{path}.{field}" if path else field
        if field in schema:
            unknown += _prune(schema[field], value[field], here)
        else:
            del value[field]
            unknown.append(here)
    return unknown
