"""The numbers of the fields in the protobuf messages that clients send.

A line is a message and its fields in the order of their numbers, from 1; a number in the line sets
the count. The types are those of the official client's models; ``name:type`` is for messages
without a model. ``+type`` is a message whose fields JSON has in the parent, ``:-`` is ignored.
``?`` marks optional fields, where an empty value differs from an absent one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from qwenkit.sandbox.kube.schema import built_in_kinds


@dataclass(frozen=True)
class MessageField:
    """One field; ``form`` is ``list``, ``dict``, ``inline`` or empty."""

    name: str
    form: str
    type: str
    optional: bool


def is_message(name: str) -> bool:
    """Return whether the message is in the table."""
    return name in _MESSAGES


@cache
def fields(message: str) -> dict[int, MessageField]:
    """Return the fields of a message by their numbers."""
    return dict(_numbered(message))


def _numbered(message: str) -> Iterator[tuple[int, MessageField]]:
    number = 1
    for word in _MESSAGES[message]:
        if word.isdecimal():
            number = int(word)
        else:
            yield number, _field(message, word)
            number += 1


def _field(message: str, word: str) -> MessageField:
    optional, word = word.endswith("?"), word.rstrip("?")
    name, _, kind = word.partition(":")
    if word.startswith("+"):
        return MessageField("", "inline", word[1:], optional)
    if kind:
        return MessageField(name, "", kind, optional)
    model = built_in_kinds.fields(f"V1{message}")
    field = next(field for field in model if field.name == name)
    return MessageField(name, field.form, _type(field), optional)


def _type(field: built_in_kinds.ModelField) -> str:
    if field.is_quantity:
        return "Quantity"
    if built_in_kinds.is_model(field.type):
        return built_in_kinds.title(field.type)
    return field.type


_TABLE = """\
AggregationRule clusterRoleSelectors
BoundObjectReference kind apiVersion name uid
CSIPersistentVolumeSource driver volumeHandle readOnly fsType volumeAttributes
  controllerPublishSecretRef nodeStageSecretRef nodePublishSecretRef controllerExpandSecretRef
  nodeExpandSecretRef
CSIVolumeSource driver readOnly? fsType? volumeAttributes nodePublishSecretRef
Capabilities add drop
ClusterRole metadata rules aggregationRule
ClusterRoleBinding metadata subjects roleRef
ConfigMap metadata data binaryData immutable?
ConfigMapEnvSource +LocalObjectReference optional?
ConfigMapKeySelector +LocalObjectReference key optional?
ConfigMapProjection +LocalObjectReference items 4 optional?
ConfigMapVolumeSource +LocalObjectReference items defaultMode? optional?
Container name image command args workingDir ports env resources volumeMounts livenessProbe
  readinessProbe 13 terminationMessagePath imagePullPolicy securityContext stdin stdinOnce tty
  envFrom terminationMessagePolicy 22 startupProbe 24 restartPolicy?
ContainerPort name hostPort containerPort protocol hostIP
CronJob metadata spec status:-
CronJobSpec schedule startingDeadlineSeconds? concurrencyPolicy suspend? jobTemplate
  successfulJobsHistoryLimit? failedJobsHistoryLimit? timeZone?
DeleteOptions gracePeriodSeconds? preconditions 4 propagationPolicy? dryRun
Deployment metadata spec status:-
DeploymentSpec replicas? selector template strategy minReadySeconds revisionHistoryLimit? paused 9
  progressDeadlineSeconds?
DeploymentStrategy type rollingUpdate
DownwardAPIProjection items
DownwardAPIVolumeFile path fieldRef resourceFieldRef mode?
DownwardAPIVolumeSource items defaultMode?
EmptyDirVolumeSource medium sizeLimit
EnvFromSource prefix configMapRef secretRef
EnvVar name value valueFrom
EnvVarSource fieldRef resourceFieldRef configMapKeyRef secretKeyRef
ExecAction command
GRPCAction port service?
HTTPGetAction path port host scheme httpHeaders
HTTPHeader name value
HostAlias ip hostnames
HostPathVolumeSource path type?
Job metadata spec status:-
JobSpec parallelism? completions? activeDeadlineSeconds? selector manualSelector? template
  backoffLimit? ttlSecondsAfterFinished? completionMode? suspend?
JobTemplateSpec metadata spec
KeyToPath key path mode?
LabelSelector matchLabels matchExpressions
LabelSelectorRequirement key operator values
LocalObjectReference name
NFSVolumeSource server path readOnly
Namespace metadata spec status:-
NamespaceSpec finalizers
NonResourceAttributes path verb
ObjectFieldSelector apiVersion fieldPath
ObjectMeta name generateName namespace 5 uid resourceVersion generation creationTimestamp
  deletionTimestamp deletionGracePeriodSeconds? labels annotations ownerReferences finalizers 17
  managedFields:-
ObjectReference kind namespace name uid apiVersion resourceVersion fieldPath
OwnerReference kind 3 name uid apiVersion controller? blockOwnerDeletion?
PersistentVolume metadata spec status:-
PersistentVolumeClaim metadata spec status:-
PersistentVolumeClaimSpec accessModes resources volumeName selector storageClassName? volumeMode?
PersistentVolumeClaimVolumeSource claimName readOnly
PersistentVolumeSource 3 hostPath:HostPathVolumeSource 5 nfs:NFSVolumeSource 22
  csi:CSIPersistentVolumeSource
PersistentVolumeSpec capacity +PersistentVolumeSource accessModes claimRef
  persistentVolumeReclaimPolicy storageClassName mountOptions volumeMode?
Pod metadata spec status:-
PodSecurityContext 2 runAsUser? runAsNonRoot? supplementalGroups fsGroup? runAsGroup? 9
  fsGroupChangePolicy? seccompProfile
PodSpec volumes containers restartPolicy terminationGracePeriodSeconds? activeDeadlineSeconds?
  dnsPolicy nodeSelector serviceAccountName serviceAccount nodeName hostNetwork hostPID hostIPC
  securityContext imagePullSecrets hostname subdomain 19 schedulerName initContainers
  automountServiceAccountToken? tolerations hostAliases priorityClassName priority? 27
  shareProcessNamespace? 29 runtimeClassName? enableServiceLinks? preemptionPolicy? 40 resources
PodTemplateSpec metadata spec
PolicyRule verbs apiGroups resources resourceNames nonResourceURLs
Preconditions uid? resourceVersion?
Probe +ProbeHandler initialDelaySeconds timeoutSeconds periodSeconds successThreshold
  failureThreshold terminationGracePeriodSeconds?
ProbeHandler exec:ExecAction httpGet:HTTPGetAction tcpSocket:TCPSocketAction grpc:GRPCAction
ProjectedVolumeSource sources defaultMode?
ResourceAttributes namespace verb group version resource subresource name
ResourceFieldSelector containerName resource divisor
ResourceQuota metadata spec status:-
ResourceQuotaSpec hard scopes
ResourceRequirements limits requests
Role metadata rules
RoleBinding metadata subjects roleRef
RoleRef apiGroup kind name
RollingUpdateDeployment maxUnavailable maxSurge
Scale metadata spec status:-
ScaleSpec replicas
SeccompProfile type localhostProfile?
Secret metadata data type stringData immutable?
SecretEnvSource +LocalObjectReference optional?
SecretKeySelector +LocalObjectReference key optional?
SecretProjection +LocalObjectReference items 4 optional?
SecretReference name namespace
SecretVolumeSource secretName items defaultMode? optional?
SecurityContext capabilities privileged? 4 runAsUser? runAsNonRoot? readOnlyRootFilesystem?
  allowPrivilegeEscalation? runAsGroup? 11 seccompProfile
SelfSubjectAccessReview metadata spec status:-
SelfSubjectAccessReviewSpec resourceAttributes nonResourceAttributes
SelfSubjectReview metadata status:-
SelfSubjectRulesReview metadata spec status:-
SelfSubjectRulesReviewSpec namespace
Service metadata spec status:-
ServiceAccount metadata secrets imagePullSecrets automountServiceAccountToken?
ServiceAccountTokenProjection audience expirationSeconds? path
ServicePort name protocol port targetPort nodePort appProtocol?
ServiceSpec ports selector clusterIP type externalIPs 7 sessionAffinity loadBalancerIP
  loadBalancerSourceRanges externalName externalTrafficPolicy healthCheckNodePort
  publishNotReadyAddresses 17 ipFamilyPolicy? clusterIPs ipFamilies allocateLoadBalancerNodePorts?
  loadBalancerClass? internalTrafficPolicy?
Subject kind:str apiGroup:str name:str namespace:str
TCPSocketAction port host
TokenRequest metadata:ObjectMeta spec:TokenRequestSpec status:-
TokenRequestSpec audiences 3 boundObjectRef expirationSeconds?
Toleration key operator value effect tolerationSeconds?
Volume name +VolumeSource
VolumeMount name readOnly mountPath subPath mountPropagation? subPathExpr
VolumeProjection secret downwardAPI configMap serviceAccountToken
VolumeResourceRequirements limits requests
VolumeSource hostPath:HostPathVolumeSource emptyDir:EmptyDirVolumeSource 6 secret:SecretVolumeSource
  nfs:NFSVolumeSource 10 persistentVolumeClaim:PersistentVolumeClaimVolumeSource 16
  downwardAPI:DownwardAPIVolumeSource 19 configMap:ConfigMapVolumeSource 26
  projected:ProjectedVolumeSource 28 csi:CSIVolumeSource"""
_MESSAGES = {line.split()[0]: line.split()[1:] for line in _TABLE.replace("\n ", "").split("\n")}
