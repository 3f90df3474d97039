"""The fields of Knative's objects and of their pods, with the Go types that declare them.

This is where the field schema of a revision's pod stands: the webhook's decoder and the messages
of its errors follow it, the sandbox's API prunes by it and describes it in OpenAPI. The fields of
built-in kinds are those of the official client's models (``sandbox.kube.schema``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qwenkit.admission.schema.types import SCALARS, ListOf, MapOf, Opaque, Struct, Type

# A line declares a Go type: ``field:type`` for each field that is kept; others are dropped.
#
#   *T        a pointer: a zero that was written is kept
#   []T{key}  a list whose items differ in ``key``
#   T!        always written: an absent one becomes the zero of its type (a list: null)
#   T=x       always written: an absent one becomes ``x``
#   +T        all the fields of T
#   ...       open: the API server's schema does not describe this type, so the API server drops
#             nothing in it and the webhook judges it. It lists every field of its Go type
#
# A type without a line is passed on as it is. ``v1.X/variant`` is ``v1.X`` with other fields.
_TABLE = """
v1.Capabilities add:[]string drop:[]string
v1.ConfigMapEnvSource name:string! optional:*bool
v1.ConfigMapKeySelector +v1.ConfigMapEnvSource key:string!
v1.ConfigMapProjection +v1.ConfigMapEnvSource items:[]v1.KeyToPath
v1.ConfigMapVolumeSource +v1.ConfigMapProjection defaultMode:*int32
v1.ConfigurationSpec template:v1.RevisionTemplateSpec
v1.Container name:string! image:string command:[]string args:[]string workingDir:string
  imagePullPolicy:string env:[]v1.EnvVar{name} envFrom:[]v1.EnvFromSource
  ports:[]v1.ContainerPort volumeMounts:[]v1.VolumeMount{mountPath}
  resources:v1.ResourceRequirements! securityContext:v1.SecurityContext livenessProbe:v1.Probe
  readinessProbe:v1.Probe startupProbe:v1.Probe terminationMessagePath:string
  terminationMessagePolicy:string
v1.Container/init +v1.Container env:[]v1.EnvVar/init{name} ports:[]v1.ContainerPort/init
  volumeMounts:[]v1.VolumeMount/init{mountPath} resources:v1.ResourceRequirements/init!
  securityContext:v1.SecurityContext/init lifecycle:v1.Lifecycle restartPolicy:*string
  resizePolicy:[]v1.ContainerResizePolicy restartPolicyRules:[]v1.ContainerRestartRule
  stdin:bool stdinOnce:bool tty:bool volumeDevices:[]v1.VolumeDevice ...
v1.ContainerPort name:string containerPort:int32! protocol:string=TCP
v1.ContainerPort/init +v1.ContainerPort hostIP:string hostPort:int32
v1.CSIVolumeSource driver:string! fsType:*string nodePublishSecretRef:v1.LocalObjectReference/csi
  readOnly:*bool volumeAttributes:map[string]string ...
v1.DownwardAPIProjection items:[]v1.DownwardAPIVolumeFile
v1.DownwardAPIVolumeFile path:string! fieldRef:v1.ObjectFieldSelector mode:*int32
  resourceFieldRef:v1.ResourceFieldSelector
v1.EmptyDirVolumeSource medium:string sizeLimit:resource.Quantity ...
v1.EnvFromSource configMapRef:v1.ConfigMapEnvSource prefix:string secretRef:v1.SecretEnvSource
v1.EnvVar name:string! value:string valueFrom:v1.EnvVarSource
v1.EnvVar/init +v1.EnvVar valueFrom:v1.EnvVarSource/init
v1.EnvVarSource configMapKeyRef:v1.ConfigMapKeySelector fieldRef:v1.ObjectFieldSelector
  resourceFieldRef:v1.ResourceFieldSelector secretKeyRef:v1.SecretKeySelector
v1.EnvVarSource/init +v1.EnvVarSource fileKeyRef:v1.FileKeySelector
v1.ExecAction command:[]string
v1.GRPCAction port:int32! service:string!
v1.HostPathVolumeSource path:string! type:*string ...
v1.HTTPGetAction host:string httpHeaders:[]v1.HTTPHeader path:string port:intstr.IntOrString!
  scheme:string
v1.HTTPHeader name:string! value:string!
v1.ImageVolumeSource pullPolicy:string reference:string ...
v1.KeyToPath key:string! mode:*int32 path:string!
v1.LocalObjectReference name:string!
v1.LocalObjectReference/csi name:string
v1.ObjectFieldSelector apiVersion:string fieldPath:string! ...
v1.ObjectMeta annotations:map[string]string creationTimestamp:string
  deletionGracePeriodSeconds:*int64 deletionTimestamp:string finalizers:[]string
  generateName:string generation:int64 labels:map[string]string
  managedFields:[]v1.ManagedFieldsEntry name:string namespace:string
  ownerReferences:[]v1.OwnerReference resourceVersion:string selfLink:string uid:string
v1.ObjectMeta/template +v1.ObjectMeta ...
v1.OwnerReference apiVersion:string blockOwnerDeletion:*bool controller:*bool kind:string
  name:string uid:string
v1.PersistentVolumeClaimVolumeSource claimName:string! readOnly:bool ...
v1.PodSecurityContext appArmorProfile:v1.AppArmorProfile fsGroup:*int64
  fsGroupChangePolicy:*string runAsGroup:*int64 runAsNonRoot:*bool runAsUser:*int64
  seLinuxChangePolicy:*string seLinuxOptions:v1.SELinuxOptions seccompProfile:v1.SeccompProfile
  supplementalGroups:[]int64 supplementalGroupsPolicy:*string sysctls:[]v1.Sysctl
  windowsOptions:v1.WindowsSecurityContextOptions ...
v1.Probe exec:v1.ExecAction grpc:v1.GRPCAction httpGet:v1.HTTPGetAction
  tcpSocket:v1.TCPSocketAction failureThreshold:int32 initialDelaySeconds:int32
  periodSeconds:int32 successThreshold:int32 timeoutSeconds:int32
v1.ProjectedVolumeSource defaultMode:*int32 sources:[]v1.VolumeProjection!
v1.ResourceFieldSelector containerName:string divisor:resource.Quantity! resource:string! ...
v1.ResourceRequirements limits:v1.ResourceList requests:v1.ResourceList
v1.ResourceRequirements/init +v1.ResourceRequirements claims:[]v1.ResourceClaim
v1.RevisionSpec affinity:v1.Affinity automountServiceAccountToken:*bool
  containerConcurrency:*int64 containers:[]v1.Container! dnsConfig:v1.PodDNSConfig
  dnsPolicy:string enableServiceLinks:*bool hostAliases:[]v1.HostAlias hostIPC:bool
  hostNetwork:bool hostPID:bool idleTimeoutSeconds:*int64
  imagePullSecrets:[]v1.LocalObjectReference{name} initContainers:[]v1.Container/init
  nodeSelector:map[string]string priorityClassName:string responseStartTimeoutSeconds:*int64
  runtimeClassName:*string schedulerName:string securityContext:v1.PodSecurityContext
  serviceAccountName:string shareProcessNamespace:*bool timeoutSeconds:*int64
  tolerations:[]v1.Toleration topologySpreadConstraints:[]v1.TopologySpreadConstraint
  volumes:[]v1.Volume{name}
v1.RevisionTemplateSpec metadata:v1.ObjectMeta/template! spec:v1.RevisionSpec!
v1.RouteSpec traffic:[]v1.TrafficTarget
v1.SeccompProfile localhostProfile:*string type:string!
v1.SecretEnvSource +v1.ConfigMapEnvSource
v1.SecretKeySelector +v1.ConfigMapKeySelector
v1.SecretProjection +v1.ConfigMapProjection
v1.SecretVolumeSource defaultMode:*int32 items:[]v1.KeyToPath optional:*bool secretName:string
v1.SecurityContext allowPrivilegeEscalation:*bool capabilities:v1.Capabilities privileged:*bool
  readOnlyRootFilesystem:*bool runAsGroup:*int64 runAsNonRoot:*bool runAsUser:*int64
  seccompProfile:v1.SeccompProfile
v1.SecurityContext/init +v1.SecurityContext appArmorProfile:v1.AppArmorProfile procMount:*string
  seLinuxOptions:v1.SELinuxOptions windowsOptions:v1.WindowsSecurityContextOptions
v1.ServiceAccountTokenProjection audience:string expirationSeconds:*int64 path:string!
v1.ServiceSpec template:v1.RevisionTemplateSpec traffic:[]v1.TrafficTarget
v1.TCPSocketAction host:string port:intstr.IntOrString!
v1.TrafficTarget configurationName:string latestRevision:*bool percent:*int64
  revisionName:string tag:string url:apis.URL
v1.Volume name:string! configMap:v1.ConfigMapVolumeSource csi:v1.CSIVolumeSource
  emptyDir:v1.EmptyDirVolumeSource ephemeral:v1.EphemeralVolumeSource
  hostPath:v1.HostPathVolumeSource image:v1.ImageVolumeSource
  persistentVolumeClaim:v1.PersistentVolumeClaimVolumeSource
  projected:v1.ProjectedVolumeSource secret:v1.SecretVolumeSource
v1.VolumeMount mountPath:string! mountPropagation:*string name:string! readOnly:bool
  subPath:string
v1.VolumeMount/init +v1.VolumeMount recursiveReadOnly:*string subPathExpr:string
v1.VolumeProjection configMap:v1.ConfigMapProjection downwardAPI:v1.DownwardAPIProjection
  secret:v1.SecretProjection serviceAccountToken:v1.ServiceAccountTokenProjection
"""
_FIELD = re.compile(
    r"(?P<name>\w+):(?P<list>\[\])?(?P<type>[\w.*/]+(\[string\]\w+)?)"
    r"(\{(?P<key>\w+)\})?(?P<always>!)?(=(?P<preset>\w+))?"
)
_DECLARED = {
    line.split()[0]: line.split()[1:] for line in _TABLE.strip().replace("\n ", "").split("\n")
}
_ZEROS: Mapping[str, Any] = {"int32": 0, "intstr.IntOrString": 0, "resource.Quantity": "0"}


def _struct(name: str) -> Struct:
    fields: dict[str, Type] = {}
    preset: dict[str, Any] = {}
    for word in _DECLARED[name]:
        if word.startswith("+"):
            parent = _struct(word[1:])
            fields, preset = {**fields, **parent.fields}, {**preset, **parent.preset}
        elif found := _FIELD.fullmatch(word):
            fields[found["name"]] = _list(found) if found["list"] else _type(found["type"])
            if found["preset"]:
                preset[found["name"]] = found["preset"]
            elif found["always"] and not found["list"]:
                zero: Any = {} if found["type"] in _DECLARED else ""
                preset[found["name"]] = _ZEROS.get(found["type"], zero)
    return Struct(name.partition("/")[0], fields, open=_DECLARED[name][-1] == "...", preset=preset)


def _list(found: re.Match[str]) -> Type:
    name = found["type"]
    if name not in _DECLARED and name not in SCALARS:
        return Opaque(f"[]{name}", list)
    return ListOf(_type(name), found["key"] or "", required=bool(found["always"]))


def _type(name: str) -> Type:
    if name in _DECLARED:
        return _struct(name)
    if name.startswith("map[string]"):
        return MapOf(SCALARS[name.removeprefix("map[string]")])
    if name == "v1.ResourceList":
        return MapOf(SCALARS["resource.Quantity"], name)
    return SCALARS.get(name, Opaque(name))


METADATA = _struct("v1.ObjectMeta")
SPECS: Mapping[str, Struct] = {
    kind: _struct(f"v1.{kind}Spec") for kind in ("Service", "Configuration", "Revision", "Route")
}
