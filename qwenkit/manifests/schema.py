"""What the fields of Knative's objects are: names and Go types, as API server and webhook see them.

A field that is not listed is pruned by the API server before a webhook sees it; where the API
server prunes nothing (``strict``), the webhook itself refuses an unknown field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Scalar:
    """A string, boolean, integer, quantity or int-or-string, by its Go name."""

    go: str


@dataclass(frozen=True)
class Opaque:
    """A subtree that is passed on as it is; only object or array is checked."""

    go: str
    kind: type = dict


@dataclass(frozen=True)
class Struct:
    """An object with known fields; ``preset`` are the values that the API server fills in."""

    go: str
    fields: Mapping[str, Type]
    strict: bool = False
    preset: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ListOf:
    """An array; ``key`` is the field whose values must differ."""

    item: Type
    key: str = ""

    @property
    def go(self) -> str:
        """The Go type."""
        return f"[]{self.item.go}"


@dataclass(frozen=True)
class MapOf:
    """An object with free keys."""

    value: Type
    name: str = ""

    @property
    def go(self) -> str:
        """The Go type."""
        return self.name or f"map[string]{self.value.go}"


Type = Scalar | Opaque | Struct | ListOf | MapOf

STRING, BOOL, INT32, INT64 = Scalar("string"), Scalar("bool"), Scalar("int32"), Scalar("int64")
QUANTITY, INT_OR_STRING = Scalar("resource.Quantity"), Scalar("intstr.IntOrString")
_STRINGS = ListOf(STRING)
_STRING_MAP = MapOf(STRING)


def _optional_reference(go: str, **more: Type) -> Struct:
    return Struct(go, {"name": STRING, "optional": BOOL, **more}, preset={"name": ""})


_ITEMS = ListOf(Struct("v1.KeyToPath", {"key": STRING, "mode": INT32, "path": STRING}))
_FIELD_REF = Struct("v1.ObjectFieldSelector", {"apiVersion": STRING, "fieldPath": STRING}, True)
_RESOURCE_REF = Struct(
    "v1.ResourceFieldSelector",
    {"containerName": STRING, "divisor": QUANTITY, "resource": STRING},
    True,
)
_HANDLERS: dict[str, Type] = {
    "exec": Struct("v1.ExecAction", {"command": _STRINGS}),
    "grpc": Struct("v1.GRPCAction", {"port": INT32, "service": STRING}, preset={"service": ""}),
    "httpGet": Struct(
        "v1.HTTPGetAction",
        {
            "host": STRING,
            "httpHeaders": ListOf(Struct("v1.HTTPHeader", {"name": STRING, "value": STRING})),
            "path": STRING,
            "port": INT_OR_STRING,
            "scheme": STRING,
        },
    ),
    "tcpSocket": Struct("v1.TCPSocketAction", {"host": STRING, "port": INT_OR_STRING}),
}
_PROBE_NUMBERS = (
    "failureThreshold",
    "initialDelaySeconds",
    "periodSeconds",
    "successThreshold",
    "timeoutSeconds",
)
_PROBE = Struct("v1.Probe", {**_HANDLERS, **dict.fromkeys(_PROBE_NUMBERS, INT32)})
_ENV_SOURCE = Struct(
    "v1.EnvVarSource",
    {
        "configMapKeyRef": _optional_reference("v1.ConfigMapKeySelector", key=STRING),
        "fieldRef": _FIELD_REF,
        "resourceFieldRef": _RESOURCE_REF,
        "secretKeyRef": _optional_reference("v1.SecretKeySelector", key=STRING),
    },
)
_SECCOMP = Struct("v1.SeccompProfile", {"localhostProfile": STRING, "type": STRING})
_CONTAINER_SECURITY = Struct(
    "v1.SecurityContext",
    {
        "allowPrivilegeEscalation": BOOL,
        "capabilities": Struct("v1.Capabilities", {"add": _STRINGS, "drop": _STRINGS}),
        "privileged": BOOL,
        "readOnlyRootFilesystem": BOOL,
        "runAsGroup": INT64,
        "runAsNonRoot": BOOL,
        "runAsUser": INT64,
        "seccompProfile": _SECCOMP,
    },
)
_RESOURCES = Struct(
    "v1.ResourceRequirements",
    {name: MapOf(QUANTITY, "v1.ResourceList") for name in ("limits", "requests")},
)
_MOUNT = Struct(
    "v1.VolumeMount",
    {
        "mountPath": STRING,
        "mountPropagation": STRING,
        "name": STRING,
        "readOnly": BOOL,
        "subPath": STRING,
    },
)
_CONTAINER_FIELDS: dict[str, Type] = {
    "args": _STRINGS,
    "command": _STRINGS,
    "env": ListOf(
        Struct("v1.EnvVar", {"name": STRING, "value": STRING, "valueFrom": _ENV_SOURCE}), "name"
    ),
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
    "ports": ListOf(
        Struct(
            "v1.ContainerPort",
            {"containerPort": INT32, "name": STRING, "protocol": STRING},
            preset={"protocol": "TCP"},
        )
    ),
    "readinessProbe": _PROBE,
    "resources": _RESOURCES,
    "securityContext": _CONTAINER_SECURITY,
    "startupProbe": _PROBE,
    "terminationMessagePath": STRING,
    "terminationMessagePolicy": STRING,
    "volumeMounts": ListOf(_MOUNT, "mountPath"),
    "workingDir": STRING,
}
_INIT_CONTAINER = Struct(
    "v1.Container", {**_CONTAINER_FIELDS, "lifecycle": Opaque("v1.Lifecycle")}, strict=True
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
                            "mode": INT32,
                            "path": STRING,
                            "resourceFieldRef": _RESOURCE_REF,
                        },
                    )
                )
            },
        ),
        "secret": _optional_reference("v1.SecretProjection", items=_ITEMS),
        "serviceAccountToken": Struct(
            "v1.ServiceAccountTokenProjection",
            {"audience": STRING, "expirationSeconds": INT64, "path": STRING},
        ),
    },
)
_VOLUME = Struct(
    "v1.Volume",
    {
        "configMap": _optional_reference(
            "v1.ConfigMapVolumeSource", defaultMode=INT32, items=_ITEMS
        ),
        "csi": Opaque("v1.CSIVolumeSource"),
        "emptyDir": Struct(
            "v1.EmptyDirVolumeSource", {"medium": STRING, "sizeLimit": QUANTITY}, strict=True
        ),
        "ephemeral": Opaque("v1.EphemeralVolumeSource"),
        "hostPath": Struct("v1.HostPathVolumeSource", {"path": STRING, "type": STRING}, True),
        "image": Struct("v1.ImageVolumeSource", {"pullPolicy": STRING, "reference": STRING}, True),
        "name": STRING,
        "persistentVolumeClaim": Struct(
            "v1.PersistentVolumeClaimVolumeSource", {"claimName": STRING, "readOnly": BOOL}, True
        ),
        "projected": Struct(
            "v1.ProjectedVolumeSource", {"defaultMode": INT32, "sources": ListOf(_PROJECTION)}
        ),
        "secret": Struct(
            "v1.SecretVolumeSource",
            {"defaultMode": INT32, "items": _ITEMS, "optional": BOOL, "secretName": STRING},
        ),
    },
)
_POD_SECURITY = Struct(
    "v1.PodSecurityContext",
    {
        "fsGroup": INT64,
        "fsGroupChangePolicy": STRING,
        "runAsGroup": INT64,
        "runAsNonRoot": BOOL,
        "runAsUser": INT64,
        "seLinuxOptions": Opaque("v1.SELinuxOptions"),
        "seccompProfile": _SECCOMP,
        "supplementalGroups": ListOf(INT64),
        "supplementalGroupsPolicy": STRING,
        "sysctls": Opaque("[]v1.Sysctl", list),
        "windowsOptions": Opaque("v1.WindowsSecurityContextOptions"),
    },
    strict=True,
)
_REVISION_SPEC = Struct(
    "v1.RevisionSpec",
    {
        "affinity": Opaque("v1.Affinity"),
        "automountServiceAccountToken": BOOL,
        "containerConcurrency": INT64,
        "containers": ListOf(Struct("v1.Container", _CONTAINER_FIELDS)),
        "dnsConfig": Opaque("v1.PodDNSConfig"),
        "dnsPolicy": STRING,
        "enableServiceLinks": BOOL,
        "hostAliases": Opaque("[]v1.HostAlias", list),
        "hostIPC": BOOL,
        "hostNetwork": BOOL,
        "hostPID": BOOL,
        "idleTimeoutSeconds": INT64,
        "imagePullSecrets": ListOf(
            Struct("v1.LocalObjectReference", {"name": STRING}, preset={"name": ""}), "name"
        ),
        "initContainers": ListOf(_INIT_CONTAINER),
        "nodeSelector": _STRING_MAP,
        "priorityClassName": STRING,
        "responseStartTimeoutSeconds": INT64,
        "runtimeClassName": STRING,
        "schedulerName": STRING,
        "securityContext": _POD_SECURITY,
        "serviceAccountName": STRING,
        "shareProcessNamespace": BOOL,
        "timeoutSeconds": INT64,
        "tolerations": Opaque("[]v1.Toleration", list),
        "topologySpreadConstraints": Opaque("[]v1.TopologySpreadConstraint", list),
        "volumes": ListOf(_VOLUME, "name"),
    },
)
_METADATA_FIELDS: dict[str, Type] = {
    "annotations": _STRING_MAP,
    "creationTimestamp": STRING,
    "deletionGracePeriodSeconds": INT64,
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
                "blockOwnerDeletion": BOOL,
                "controller": BOOL,
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
    {"metadata": Struct("v1.ObjectMeta", _METADATA_FIELDS, strict=True), "spec": _REVISION_SPEC},
)
_TRAFFIC = ListOf(
    Struct(
        "v1.TrafficTarget",
        {
            "configurationName": STRING,
            "latestRevision": BOOL,
            "percent": INT64,
            "revisionName": STRING,
            "tag": STRING,
            "url": STRING,
        },
    )
)
SPECS: Mapping[str, Struct] = {
    "Service": Struct("v1.ServiceSpec", {"template": _TEMPLATE, "traffic": _TRAFFIC}),
    "Configuration": Struct("v1.ConfigurationSpec", {"template": _TEMPLATE}),
    "Revision": _REVISION_SPEC,
    "Route": Struct("v1.RouteSpec", {"traffic": _TRAFFIC}),
}
