"""What the fields of Knative's objects are: names and Go types, as API server and webhook see them.

A field that is not listed is dropped: by the API server, or, in an ``open`` part of which the API
server knows nothing, by the webhook's decoder. An open part has every field of its Go type, since
there the webhook is the one who refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.admission.schema.types import (
    BOOL,
    BOOL_POINTER,
    INT32,
    INT32_POINTER,
    INT64,
    INT64_POINTER,
    INT_OR_STRING,
    QUANTITY,
    STRING,
    STRING_POINTER,
    URL,
    ListOf,
    MapOf,
    Opaque,
    Struct,
    Type,
)

_STRINGS = ListOf(STRING)
_STRING_MAP = MapOf(STRING)


def _optional_reference(go: str, **more: Type) -> Struct:
    preset = {"name": "", "key": ""} if "key" in more else {"name": ""}
    return Struct(go, {"name": STRING, "optional": BOOL_POINTER, **more}, preset=preset)


def _pair(go: str) -> Struct:
    return Struct(go, {"name": STRING, "value": STRING}, preset={"name": "", "value": ""})


_ITEMS = ListOf(
    Struct(
        "v1.KeyToPath",
        {"key": STRING, "mode": INT32_POINTER, "path": STRING},
        preset={"key": "", "path": ""},
    )
)
_FIELD_REF = Struct(
    "v1.ObjectFieldSelector",
    {"apiVersion": STRING, "fieldPath": STRING},
    open=True,
    preset={"fieldPath": ""},
)
_RESOURCE_REF = Struct(
    "v1.ResourceFieldSelector",
    {"containerName": STRING, "divisor": QUANTITY, "resource": STRING},
    open=True,
    preset={"divisor": "0", "resource": ""},
)
_HANDLERS: dict[str, Type] = {
    "exec": Struct("v1.ExecAction", {"command": _STRINGS}),
    "grpc": Struct(
        "v1.GRPCAction", {"port": INT32, "service": STRING}, preset={"port": 0, "service": ""}
    ),
    "httpGet": Struct(
        "v1.HTTPGetAction",
        {
            "host": STRING,
            "httpHeaders": ListOf(_pair("v1.HTTPHeader")),
            "path": STRING,
            "port": INT_OR_STRING,
            "scheme": STRING,
        },
        preset={"port": 0},
    ),
    "tcpSocket": Struct(
        "v1.TCPSocketAction", {"host": STRING, "port": INT_OR_STRING}, preset={"port": 0}
    ),
}
_PROBE_NUMBERS = (
    "failureThreshold",
    "initialDelaySeconds",
    "periodSeconds",
    "successThreshold",
    "timeoutSeconds",
)
_PROBE = Struct("v1.Probe", {**_HANDLERS, **dict.fromkeys(_PROBE_NUMBERS, INT32)})
_ENV_SOURCE: dict[str, Type] = {
    "configMapKeyRef": _optional_reference("v1.ConfigMapKeySelector", key=STRING),
    "fieldRef": _FIELD_REF,
    "resourceFieldRef": _RESOURCE_REF,
    "secretKeyRef": _optional_reference("v1.SecretKeySelector", key=STRING),
}


def _env(source: Mapping[str, Type]) -> ListOf:
    value = Struct("v1.EnvVarSource", source)
    fields: dict[str, Type] = {"name": STRING, "value": STRING, "valueFrom": value}
    return ListOf(Struct("v1.EnvVar", fields, preset={"name": ""}), "name")


def _ports(fields: Mapping[str, Type]) -> ListOf:
    preset = {"containerPort": 0, "protocol": "TCP"}
    return ListOf(Struct("v1.ContainerPort", fields, preset=preset))


def _mounts(fields: Mapping[str, Type]) -> ListOf:
    preset = {"mountPath": "", "name": ""}
    return ListOf(Struct("v1.VolumeMount", fields, preset=preset), "mountPath")


_SECCOMP = Struct(
    "v1.SeccompProfile",
    {"localhostProfile": STRING_POINTER, "type": STRING},
    preset={"type": ""},
)
_CONTAINER_SECURITY: dict[str, Type] = {
    "allowPrivilegeEscalation": BOOL_POINTER,
    "capabilities": Struct("v1.Capabilities", {"add": _STRINGS, "drop": _STRINGS}),
    "privileged": BOOL_POINTER,
    "readOnlyRootFilesystem": BOOL_POINTER,
    "runAsGroup": INT64_POINTER,
    "runAsNonRoot": BOOL_POINTER,
    "runAsUser": INT64_POINTER,
    "seccompProfile": _SECCOMP,
}
_RESOURCES: dict[str, Type] = {
    name: MapOf(QUANTITY, "v1.ResourceList") for name in ("limits", "requests")
}
_PORT: dict[str, Type] = {"containerPort": INT32, "name": STRING, "protocol": STRING}
_MOUNT: dict[str, Type] = {
    "mountPath": STRING,
    "mountPropagation": STRING_POINTER,
    "name": STRING,
    "readOnly": BOOL,
    "subPath": STRING,
}
_CONTAINER_FIELDS: dict[str, Type] = {
    "args": _STRINGS,
    "command": _STRINGS,
    "env": _env(_ENV_SOURCE),
    "envFrom": ListOf(
        Struct(
            "v1.EnvFromSource",
            {
                "configMapRef": _optional_reference("v1.ConfigMapEnvSource"),
                "prefix": STRING,
                "secretRef": _optional_reference("v1.SecretEnvSource"),
            },
        )
    ),
    "image": STRING,
    "imagePullPolicy": STRING,
    "livenessProbe": _PROBE,
    "name": STRING,
    "ports": _ports(_PORT),
    "readinessProbe": _PROBE,
    "resources": Struct("v1.ResourceRequirements", _RESOURCES),
    "securityContext": Struct("v1.SecurityContext", _CONTAINER_SECURITY),
    "startupProbe": _PROBE,
    "terminationMessagePath": STRING,
    "terminationMessagePolicy": STRING,
    "volumeMounts": _mounts(_MOUNT),
    "workingDir": STRING,
}
_CONTAINER_PRESET: dict[str, Any] = {"name": "", "resources": {}}
_INIT_CONTAINER = Struct(
    "v1.Container",
    {
        **_CONTAINER_FIELDS,
        "env": _env({**_ENV_SOURCE, "fileKeyRef": Opaque("v1.FileKeySelector")}),
        "lifecycle": Opaque("v1.Lifecycle"),
        "ports": _ports({**_PORT, "hostIP": STRING, "hostPort": INT32}),
        "resizePolicy": Opaque("[]v1.ContainerResizePolicy", list),
        "resources": Struct(
            "v1.ResourceRequirements", {**_RESOURCES, "claims": Opaque("[]v1.ResourceClaim", list)}
        ),
        "restartPolicy": STRING_POINTER,
        "restartPolicyRules": Opaque("[]v1.ContainerRestartRule", list),
        "securityContext": Struct(
            "v1.SecurityContext",
            {
                **_CONTAINER_SECURITY,
                "appArmorProfile": Opaque("v1.AppArmorProfile"),
                "procMount": STRING_POINTER,
                "seLinuxOptions": Opaque("v1.SELinuxOptions"),
                "windowsOptions": Opaque("v1.WindowsSecurityContextOptions"),
            },
        ),
        "stdin": BOOL,
        "stdinOnce": BOOL,
        "tty": BOOL,
        "volumeDevices": Opaque("[]v1.VolumeDevice", list),
        "volumeMounts": _mounts(
            {**_MOUNT, "recursiveReadOnly": STRING_POINTER, "subPathExpr": STRING}
        ),
    },
    open=True,
    preset=_CONTAINER_PRESET,
)
_PROJECTION = Struct(
    "v1.VolumeProjection",
    {
        "configMap": _optional_reference("v1.ConfigMapProjection", items=_ITEMS),
        "downwardAPI": Struct(
            "v1.DownwardAPIProjection",
            {
                "items": ListOf(
                    Struct(
                        "v1.DownwardAPIVolumeFile",
                        {
                            "fieldRef": _FIELD_REF,
                            "mode": INT32_POINTER,
                            "path": STRING,
                            "resourceFieldRef": _RESOURCE_REF,
                        },
                        preset={"path": ""},
                    )
                )
            },
        ),
        "secret": _optional_reference("v1.SecretProjection", items=_ITEMS),
        "serviceAccountToken": Struct(
            "v1.ServiceAccountTokenProjection",
            {"audience": STRING, "expirationSeconds": INT64_POINTER, "path": STRING},
            preset={"path": ""},
        ),
    },
)
_VOLUME = Struct(
    "v1.Volume",
    {
        "configMap": _optional_reference(
            "v1.ConfigMapVolumeSource", defaultMode=INT32_POINTER, items=_ITEMS
        ),
        "csi": Struct(
            "v1.CSIVolumeSource",
            {
                "driver": STRING,
                "fsType": STRING_POINTER,
                "nodePublishSecretRef": Struct("v1.LocalObjectReference", {"name": STRING}),
                "readOnly": BOOL_POINTER,
                "volumeAttributes": _STRING_MAP,
            },
            open=True,
            preset={"driver": ""},
        ),
        "emptyDir": Struct(
            "v1.EmptyDirVolumeSource", {"medium": STRING, "sizeLimit": QUANTITY}, open=True
        ),
        "ephemeral": Opaque("v1.EphemeralVolumeSource"),
        "hostPath": Struct(
            "v1.HostPathVolumeSource",
            {"path": STRING, "type": STRING_POINTER},
            open=True,
            preset={"path": ""},
        ),
        "image": Struct(
            "v1.ImageVolumeSource", {"pullPolicy": STRING, "reference": STRING}, open=True
        ),
        "name": STRING,
        "persistentVolumeClaim": Struct(
            "v1.PersistentVolumeClaimVolumeSource",
            {"claimName": STRING, "readOnly": BOOL},
            open=True,
            preset={"claimName": ""},
        ),
        "projected": Struct(
            "v1.ProjectedVolumeSource",
            {"defaultMode": INT32_POINTER, "sources": ListOf(_PROJECTION, required=True)},
        ),
        "secret": Struct(
            "v1.SecretVolumeSource",
            {
                "defaultMode": INT32_POINTER,
                "items": _ITEMS,
                "optional": BOOL_POINTER,
                "secretName": STRING,
            },
        ),
    },
    preset={"name": ""},
)
_POD_SECURITY = Struct(
    "v1.PodSecurityContext",
    {
        "appArmorProfile": Opaque("v1.AppArmorProfile"),
        "fsGroup": INT64_POINTER,
        "fsGroupChangePolicy": STRING_POINTER,
        "runAsGroup": INT64_POINTER,
        "runAsNonRoot": BOOL_POINTER,
        "runAsUser": INT64_POINTER,
        "seLinuxChangePolicy": STRING_POINTER,
        "seLinuxOptions": Opaque("v1.SELinuxOptions"),
        "seccompProfile": _SECCOMP,
        "supplementalGroups": ListOf(INT64),
        "supplementalGroupsPolicy": STRING_POINTER,
        "sysctls": Opaque("[]v1.Sysctl", list),
        "windowsOptions": Opaque("v1.WindowsSecurityContextOptions"),
    },
    open=True,
)
_REVISION_SPEC = Struct(
    "v1.RevisionSpec",
    {
        "affinity": Opaque("v1.Affinity"),
        "automountServiceAccountToken": BOOL_POINTER,
        "containerConcurrency": INT64_POINTER,
        "containers": ListOf(
            Struct("v1.Container", _CONTAINER_FIELDS, preset=_CONTAINER_PRESET), required=True
        ),
        "dnsConfig": Opaque("v1.PodDNSConfig"),
        "dnsPolicy": STRING,
        "enableServiceLinks": BOOL_POINTER,
        "hostAliases": Opaque("[]v1.HostAlias", list),
        "hostIPC": BOOL,
        "hostNetwork": BOOL,
        "hostPID": BOOL,
        "idleTimeoutSeconds": INT64_POINTER,
        "imagePullSecrets": ListOf(
            Struct("v1.LocalObjectReference", {"name": STRING}, preset={"name": ""}), "name"
        ),
        "initContainers": ListOf(_INIT_CONTAINER),
        "nodeSelector": _STRING_MAP,
        "priorityClassName": STRING,
        "responseStartTimeoutSeconds": INT64_POINTER,
        "runtimeClassName": STRING_POINTER,
        "schedulerName": STRING,
        "securityContext": _POD_SECURITY,
        "serviceAccountName": STRING,
        "shareProcessNamespace": BOOL_POINTER,
        "timeoutSeconds": INT64_POINTER,
        "tolerations": Opaque("[]v1.Toleration", list),
        "topologySpreadConstraints": Opaque("[]v1.TopologySpreadConstraint", list),
        "volumes": ListOf(_VOLUME, "name"),
    },
)
_METADATA_FIELDS: dict[str, Type] = {
    "annotations": _STRING_MAP,
    "creationTimestamp": STRING,
    "deletionGracePeriodSeconds": INT64_POINTER,
    "deletionTimestamp": STRING,
    "finalizers": _STRINGS,
    "generateName": STRING,
    "generation": INT64,
    "labels": _STRING_MAP,
    "managedFields": Opaque("[]v1.ManagedFieldsEntry", list),
    "name": STRING,
    "namespace": STRING,
    "ownerReferences": ListOf(
        Struct(
            "v1.OwnerReference",
            {
                "apiVersion": STRING,
                "blockOwnerDeletion": BOOL_POINTER,
                "controller": BOOL_POINTER,
                "kind": STRING,
                "name": STRING,
                "uid": STRING,
            },
        )
    ),
    "resourceVersion": STRING,
    "selfLink": STRING,
    "uid": STRING,
}
METADATA = Struct("v1.ObjectMeta", _METADATA_FIELDS)
_TEMPLATE = Struct(
    "v1.RevisionTemplateSpec",
    {"metadata": Struct("v1.ObjectMeta", _METADATA_FIELDS, open=True), "spec": _REVISION_SPEC},
    preset={"metadata": {}, "spec": {}},
)
_TRAFFIC = ListOf(
    Struct(
        "v1.TrafficTarget",
        {
            "configurationName": STRING,
            "latestRevision": BOOL_POINTER,
            "percent": INT64_POINTER,
            "revisionName": STRING,
            "tag": STRING,
            "url": URL,
        },
    )
)
SPECS: Mapping[str, Struct] = {
    "Service": Struct("v1.ServiceSpec", {"template": _TEMPLATE, "traffic": _TRAFFIC}),
    "Configuration": Struct("v1.ConfigurationSpec", {"template": _TEMPLATE}),
    "Revision": _REVISION_SPEC,
    "Route": Struct("v1.RouteSpec", {"traffic": _TRAFFIC}),
}
