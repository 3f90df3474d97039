"""The fields of Knative's objects and of their pods, with the Go types that declare them.

This is the only field schema of a revision's pod: the webhook's decoder and the messages of its
errors follow it, the sandbox's API prunes fields by it and describes it in OpenAPI. The fields of
built-in kinds are those of the official client's models (``sandbox.kube.schema``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qwenkit.admission.schema.types import SCALARS, ListOf, MapOf, Opaque, Struct, Type, zero

# A line declares a Go type: ``field:type`` for each field that is kept; others are dropped. The
# fields are in the order of Go's struct, where a comparison shows it (``go_diff``).
#
#   *T        a pointer: a zero that was written is kept
#   []T{key}  a list whose items differ in ``key``
#   T!        always written: an absent one becomes the zero of its type (a list: null)
#   T=x       always written: an absent one becomes ``x``
#   +T        all the fields of T
#   ...       open: the API server's schema does not describe this type, so the API server drops
#             nothing in it and the webhook checks it. It lists every field of its Go type
#
# A type without a line is passed on as it is. ``v1.X/variant`` is ``v1.X`` with other fields.
_TABLE = """
v1.Capabilities add:[]string drop:[]string
v1.ConfigMapEnvSource name:string! optional:*bool
v1.ConfigMapKeySelector name:string! key:string! optional:*bool
v1.ConfigMapProjection name:string! items:[]v1.KeyToPath optional:*bool
v1.ConfigMapVolumeSource name:string! items:[]v1.KeyToPath defaultMode:*int32 optional:*bool
v1.ConfigurationSpec template:v1.RevisionTemplateSpec
v1.Container name:string! image:string command:[]string args:[]string workingDir:string
  ports:[]v1.ContainerPort envFrom:[]v1.EnvFromSource env:[]v1.EnvVar{name}
  resources:v1.ResourceRequirements! volumeMounts:[]v1.VolumeMount{mountPath} livenessProbe:v1.Probe
  readinessProbe:v1.Probe startupProbe:v1.Probe terminationMessagePath:string
  terminationMessagePolicy:string imagePullPolicy:string securityContext:v1.SecurityContext
v1.Container/init +v1.Container ports:[]v1.ContainerPort/init env:[]v1.EnvVar/init{name}
  resources:v1.ResourceRequirements/init! volumeMounts:[]v1.VolumeMount/init{mountPath}
  securityContext:v1.SecurityContext/init lifecycle:v1.Lifecycle
  resizePolicy:[]v1.ContainerResizePolicy restartPolicy:*string
  restartPolicyRules:[]v1.ContainerRestartRule stdin:bool stdinOnce:bool tty:bool
  volumeDevices:[]v1.VolumeDevice ...
v1.ContainerPort name:string containerPort:int32! protocol:string=TCP
v1.ContainerPort/init +v1.ContainerPort hostIP:string hostPort:int32
v1.CSIVolumeSource driver:string! readOnly:*bool fsType:*string volumeAttributes:map[string]string
  nodePublishSecretRef:v1.LocalObjectReference/csi ...
v1.DownwardAPIProjection items:[]v1.DownwardAPIVolumeFile
v1.DownwardAPIVolumeFile path:string! fieldRef:v1.ObjectFieldSelector
  resourceFieldRef:v1.ResourceFieldSelector mode:*int32
v1.EmptyDirVolumeSource medium:string sizeLimit:resource.Quantity ...
v1.EnvFromSource prefix:string configMapRef:v1.ConfigMapEnvSource secretRef:v1.SecretEnvSource
v1.EnvVar name:string! value:string valueFrom:v1.EnvVarSource
v1.EnvVar/init +v1.EnvVar valueFrom:v1.EnvVarSource/init
v1.EnvVarSource fieldRef:v1.ObjectFieldSelector resourceFieldRef:v1.ResourceFieldSelector
  configMapKeyRef:v1.ConfigMapKeySelector secretKeyRef:v1.SecretKeySelector
v1.EnvVarSource/init +v1.EnvVarSource fileKeyRef:v1.FileKeySelector
v1.ExecAction command:[]string
v1.GRPCAction port:int32! service:string!
v1.HostPathVolumeSource path:string! type:*string ...
v1.HTTPGetAction path:string port:intstr.IntOrString! host:string scheme:string
  httpHeaders:[]v1.HTTPHeader
v1.HTTPHeader name:string! value:string!
v1.ImageVolumeSource reference:string pullPolicy:string ...
v1.KeyToPath key:string! path:string! mode:*int32
v1.LocalObjectReference name:string!
v1.LocalObjectReference/csi name:string
v1.ObjectFieldSelector apiVersion:string fieldPath:string! ...
v1.ObjectMeta name:string generateName:string namespace:string selfLink:string uid:string
  resourceVersion:string generation:int64 creationTimestamp:string deletionTimestamp:string
  deletionGracePeriodSeconds:*int64 labels:map[string]string annotations:map[string]string
  ownerReferences:[]v1.OwnerReference finalizers:[]string managedFields:[]v1.ManagedFieldsEntry
v1.ObjectMeta/template +v1.ObjectMeta ...
v1.OwnerReference apiVersion:string kind:string name:string uid:string controller:*bool
  blockOwnerDeletion:*bool
v1.PersistentVolumeClaimVolumeSource claimName:string! readOnly:bool ...
v1.PodSecurityContext seLinuxOptions:v1.SELinuxOptions
  windowsOptions:v1.WindowsSecurityContextOptions runAsUser:*int64 runAsGroup:*int64
  runAsNonRoot:*bool supplementalGroups:[]int64 supplementalGroupsPolicy:*string fsGroup:*int64
  sysctls:[]v1.Sysctl fsGroupChangePolicy:*string seccompProfile:v1.SeccompProfile
  appArmorProfile:v1.AppArmorProfile seLinuxChangePolicy:*string ...
v1.Probe exec:v1.ExecAction httpGet:v1.HTTPGetAction tcpSocket:v1.TCPSocketAction grpc:v1.GRPCAction
  initialDelaySeconds:int32 timeoutSeconds:int32 periodSeconds:int32 successThreshold:int32
  failureThreshold:int32
v1.ProjectedVolumeSource sources:[]v1.VolumeProjection! defaultMode:*int32
v1.ResourceFieldSelector containerName:string resource:string! divisor:resource.Quantity! ...
v1.ResourceRequirements limits:v1.ResourceList requests:v1.ResourceList
v1.ResourceRequirements/init +v1.ResourceRequirements claims:[]v1.ResourceClaim
v1.RevisionSpec volumes:[]v1.Volume{name} initContainers:[]v1.Container/init
  containers:[]v1.Container! dnsPolicy:string nodeSelector:map[string]string
  serviceAccountName:string automountServiceAccountToken:*bool hostNetwork:bool hostPID:bool
  hostIPC:bool shareProcessNamespace:*bool securityContext:v1.PodSecurityContext
  imagePullSecrets:[]v1.LocalObjectReference{name} affinity:v1.Affinity schedulerName:string
  tolerations:[]v1.Toleration hostAliases:[]v1.HostAlias priorityClassName:string
  dnsConfig:v1.PodDNSConfig runtimeClassName:*string enableServiceLinks:*bool
  topologySpreadConstraints:[]v1.TopologySpreadConstraint containerConcurrency:*int64
  timeoutSeconds:*int64 responseStartTimeoutSeconds:*int64 idleTimeoutSeconds:*int64
v1.RevisionTemplateSpec metadata:v1.ObjectMeta/template! spec:v1.RevisionSpec!
v1.RouteSpec traffic:[]v1.TrafficTarget
v1.SeccompProfile type:string! localhostProfile:*string
v1.SecretEnvSource +v1.ConfigMapEnvSource
v1.SecretKeySelector +v1.ConfigMapKeySelector
v1.SecretProjection +v1.ConfigMapProjection
v1.SecretVolumeSource secretName:string items:[]v1.KeyToPath defaultMode:*int32 optional:*bool
v1.SecurityContext capabilities:v1.Capabilities privileged:*bool runAsUser:*int64 runAsGroup:*int64
  runAsNonRoot:*bool readOnlyRootFilesystem:*bool allowPrivilegeEscalation:*bool
  seccompProfile:v1.SeccompProfile
v1.SecurityContext/init +v1.SecurityContext appArmorProfile:v1.AppArmorProfile procMount:*string
  seLinuxOptions:v1.SELinuxOptions windowsOptions:v1.WindowsSecurityContextOptions
v1.ServiceAccountTokenProjection audience:string expirationSeconds:*int64 path:string!
v1.ServiceSpec template:v1.RevisionTemplateSpec traffic:[]v1.TrafficTarget
v1.TCPSocketAction port:intstr.IntOrString! host:string
v1.TrafficTarget tag:string revisionName:string configurationName:string latestRevision:*bool
  percent:*int64 url:apis.URL
v1.Volume name:string! hostPath:v1.HostPathVolumeSource emptyDir:v1.EmptyDirVolumeSource
  secret:v1.SecretVolumeSource persistentVolumeClaim:v1.PersistentVolumeClaimVolumeSource
  configMap:v1.ConfigMapVolumeSource projected:v1.ProjectedVolumeSource csi:v1.CSIVolumeSource
  ephemeral:v1.EphemeralVolumeSource image:v1.ImageVolumeSource
v1.VolumeMount name:string! readOnly:bool mountPath:string! subPath:string mountPropagation:*string
v1.VolumeMount/init +v1.VolumeMount recursiveReadOnly:*string subPathExpr:string
v1.VolumeProjection secret:v1.SecretProjection downwardAPI:v1.DownwardAPIProjection
  configMap:v1.ConfigMapProjection serviceAccountToken:v1.ServiceAccountTokenProjection
"""
_FIELD = re.compile(
    r"(?P<name>\w+):(?P<list>\[\])?(?P<type>[\w.*/]+(\[string\]\w+)?)"
    r"(\{(?P<key>\w+)\})?(?P<always>!)?(=(?P<preset>\w+))?"
)
_DECLARED = {
    line.split()[0]: line.split()[1:] for line in _TABLE.strip().replace("\n ", "").split("\n")
}


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
                preset[found["name"]] = zero(fields[found["name"]])
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
