"""The numbers of the fields in the protobuf messages that clients send.

A line is a message and its fields in the order of their numbers, from 1; a number in the line sets
the count. ``name`` is a string, ``name:type`` of that type, ``name*type`` a list, ``name@type`` a
map with strings as keys; ``+type`` is a message whose fields JSON has in the parent, ``:-`` is
ignored. ``?`` marks optional fields, where an empty value differs from an absent one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class MessageField:
    """One field; ``form`` is ``:``, ``*``, ``@`` or ``+``, ``type`` a message or a scalar."""

    name: str
    form: str
    type: str
    optional: bool


def messages() -> dict[str, dict[int, MessageField]]:
    """Return every message's fields by their numbers."""
    found = {}
    for line in _TABLE.replace("\n  ", " ").split("\n"):
        name, *words = line.split()
        found[name] = dict(_numbered(words))
    return found


def _numbered(words: list[str]) -> Iterator[tuple[int, MessageField]]:
    number = 1
    for word in words:
        if word.isdecimal():
            number = int(word)
        else:
            yield number, _field(word)
            number += 1


def _field(word: str) -> MessageField:
    optional, word = word.endswith("?"), word.rstrip("?")
    form = next((mark for mark in ":*@+" if mark in word), ":")
    name, _, kind = word.partition(form)
    return MessageField(name, form, kind or "string", optional)


_TABLE = """\
CSIPersistentVolumeSource driver volumeHandle readOnly:bool fsType volumeAttributes@
  controllerPublishSecretRef:SecretReference nodeStageSecretRef:SecretReference
  nodePublishSecretRef:SecretReference controllerExpandSecretRef:SecretReference
  nodeExpandSecretRef:SecretReference
CSIVolumeSource driver readOnly:bool? fsType? volumeAttributes@
  nodePublishSecretRef:LocalObjectReference
Capabilities add* drop*
ConfigMap metadata:ObjectMeta data@ binaryData@bytes immutable:bool?
ConfigMapEnvSource +LocalObjectReference optional:bool?
ConfigMapKeySelector +LocalObjectReference key optional:bool?
ConfigMapProjection +LocalObjectReference items*KeyToPath 4 optional:bool?
ConfigMapVolumeSource +LocalObjectReference items*KeyToPath defaultMode:int? optional:bool?
Container name image command* args* workingDir ports*ContainerPort env*EnvVar
  resources:ResourceRequirements volumeMounts*VolumeMount livenessProbe:Probe readinessProbe:Probe
  13 terminationMessagePath imagePullPolicy securityContext:SecurityContext stdin:bool
  stdinOnce:bool tty:bool envFrom*EnvFromSource terminationMessagePolicy 22 startupProbe:Probe 24
  restartPolicy?
ContainerPort name hostPort:int containerPort:int protocol hostIP
DeleteOptions gracePeriodSeconds:int? preconditions:Preconditions 4 propagationPolicy? dryRun*
Deployment metadata:ObjectMeta spec:DeploymentSpec status:-
DeploymentSpec replicas:int? selector:LabelSelector template:PodTemplateSpec
  strategy:DeploymentStrategy minReadySeconds:int revisionHistoryLimit:int? paused:bool 9
  progressDeadlineSeconds:int?
DeploymentStrategy type rollingUpdate:RollingUpdateDeployment
DownwardAPIProjection items*DownwardAPIVolumeFile
DownwardAPIVolumeFile path fieldRef:ObjectFieldSelector resourceFieldRef:ResourceFieldSelector
  mode:int?
DownwardAPIVolumeSource items*DownwardAPIVolumeFile defaultMode:int?
EmptyDirVolumeSource medium sizeLimit:Quantity
EnvFromSource prefix configMapRef:ConfigMapEnvSource secretRef:SecretEnvSource
EnvVar name value valueFrom:EnvVarSource
EnvVarSource fieldRef:ObjectFieldSelector resourceFieldRef:ResourceFieldSelector
  configMapKeyRef:ConfigMapKeySelector secretKeyRef:SecretKeySelector
ExecAction command*
GRPCAction port:int service?
HTTPGetAction path port:IntOrString host scheme httpHeaders*HTTPHeader
HTTPHeader name value
HostAlias ip hostnames*
HostPathVolumeSource path type?
Job metadata:ObjectMeta spec:JobSpec status:-
JobSpec parallelism:int? completions:int? activeDeadlineSeconds:int? selector:LabelSelector
  manualSelector:bool? template:PodTemplateSpec backoffLimit:int? ttlSecondsAfterFinished:int?
  completionMode? suspend:bool?
KeyToPath key path mode:int?
LabelSelector matchLabels@ matchExpressions*LabelSelectorRequirement
LabelSelectorRequirement key operator values*
LocalObjectReference name
NFSVolumeSource server path readOnly:bool
Namespace metadata:ObjectMeta spec:NamespaceSpec status:-
NamespaceSpec finalizers*
ObjectFieldSelector apiVersion fieldPath
ObjectMeta name generateName namespace 5 uid resourceVersion generation:int creationTimestamp:Time
  deletionTimestamp:Time deletionGracePeriodSeconds:int? labels@ annotations@
  ownerReferences*OwnerReference finalizers* 17
  managedFields:-
ObjectReference kind namespace name uid apiVersion resourceVersion fieldPath
OwnerReference kind 3 name uid apiVersion controller:bool? blockOwnerDeletion:bool?
PersistentVolume metadata:ObjectMeta spec:PersistentVolumeSpec status:-
PersistentVolumeClaim metadata:ObjectMeta spec:PersistentVolumeClaimSpec status:-
PersistentVolumeClaimSpec accessModes* resources:VolumeResourceRequirements volumeName
  selector:LabelSelector storageClassName? volumeMode?
PersistentVolumeClaimVolumeSource claimName readOnly:bool
PersistentVolumeSource 3 hostPath:HostPathVolumeSource 5 nfs:NFSVolumeSource 22
  csi:CSIPersistentVolumeSource
PersistentVolumeSpec capacity@Quantity +PersistentVolumeSource accessModes*
  claimRef:ObjectReference persistentVolumeReclaimPolicy storageClassName mountOptions*
  volumeMode?
Pod metadata:ObjectMeta spec:PodSpec status:-
PodSecurityContext 2 runAsUser:int? runAsNonRoot:bool? supplementalGroups*int fsGroup:int?
  runAsGroup:int? 9 fsGroupChangePolicy? seccompProfile:SeccompProfile
PodSpec volumes*Volume containers*Container restartPolicy terminationGracePeriodSeconds:int?
  activeDeadlineSeconds:int? dnsPolicy nodeSelector@ serviceAccountName serviceAccount nodeName
  hostNetwork:bool hostPID:bool hostIPC:bool securityContext:PodSecurityContext
  imagePullSecrets*LocalObjectReference hostname subdomain 19 schedulerName
  initContainers*Container automountServiceAccountToken:bool? tolerations*Toleration
  hostAliases*HostAlias priorityClassName priority:int? 27 shareProcessNamespace:bool? 29
  runtimeClassName? enableServiceLinks:bool? preemptionPolicy? 40 resources:ResourceRequirements
PodTemplateSpec metadata:ObjectMeta spec:PodSpec
Preconditions uid? resourceVersion?
Probe +ProbeHandler initialDelaySeconds:int timeoutSeconds:int periodSeconds:int
  successThreshold:int failureThreshold:int terminationGracePeriodSeconds:int?
ProbeHandler exec:ExecAction httpGet:HTTPGetAction tcpSocket:TCPSocketAction grpc:GRPCAction
ProjectedVolumeSource sources*VolumeProjection defaultMode:int?
ResourceFieldSelector containerName resource divisor:Quantity
ResourceRequirements limits@Quantity requests@Quantity
RollingUpdateDeployment maxUnavailable:IntOrString maxSurge:IntOrString
Scale metadata:ObjectMeta spec:ScaleSpec status:-
ScaleSpec replicas:int
SeccompProfile type localhostProfile?
Secret metadata:ObjectMeta data@bytes type stringData@ immutable:bool?
SecretEnvSource +LocalObjectReference optional:bool?
SecretKeySelector +LocalObjectReference key optional:bool?
SecretProjection +LocalObjectReference items*KeyToPath 4 optional:bool?
SecretReference name namespace
SecretVolumeSource secretName items*KeyToPath defaultMode:int? optional:bool?
SecurityContext capabilities:Capabilities privileged:bool? 4 runAsUser:int? runAsNonRoot:bool?
  readOnlyRootFilesystem:bool? allowPrivilegeEscalation:bool? runAsGroup:int? 11
  seccompProfile:SeccompProfile
Service metadata:ObjectMeta spec:ServiceSpec status:-
ServiceAccount metadata:ObjectMeta secrets*ObjectReference imagePullSecrets*LocalObjectReference
  automountServiceAccountToken:bool?
ServiceAccountTokenProjection audience expirationSeconds:int? path
ServicePort name protocol port:int targetPort:IntOrString nodePort:int appProtocol?
ServiceSpec ports*ServicePort selector@ clusterIP type externalIPs* 7 sessionAffinity
  loadBalancerIP loadBalancerSourceRanges* externalName externalTrafficPolicy
  healthCheckNodePort:int publishNotReadyAddresses:bool 17 ipFamilyPolicy? clusterIPs* ipFamilies*
  allocateLoadBalancerNodePorts:bool? loadBalancerClass? internalTrafficPolicy?
TCPSocketAction port:IntOrString host
Toleration key operator value effect tolerationSeconds:int?
Volume name +VolumeSource
VolumeMount name readOnly:bool mountPath subPath mountPropagation? subPathExpr
VolumeProjection secret:SecretProjection downwardAPI:DownwardAPIProjection
  configMap:ConfigMapProjection serviceAccountToken:ServiceAccountTokenProjection
VolumeResourceRequirements limits@Quantity requests@Quantity
VolumeSource hostPath:HostPathVolumeSource emptyDir:EmptyDirVolumeSource 6
  secret:SecretVolumeSource nfs:NFSVolumeSource 10
  persistentVolumeClaim:PersistentVolumeClaimVolumeSource 16 downwardAPI:DownwardAPIVolumeSource
  19 configMap:ConfigMapVolumeSource 26 projected:ProjectedVolumeSource 28 csi:CSIVolumeSource"""
