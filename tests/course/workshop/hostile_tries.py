"""What a hostile participant tries at the API server: each must be refused, each is well formed.

``P01`` has the credentials; ``P02`` is another participant, ``HOME`` the workshop's own namespace.
A try that an administrator sends in the same words succeeds (writes as a dry run), so that none
is refused only for a slip of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

P01, P02, HOME = "ws-p01", "ws-p02", "qwenkit-ws"
CORE, KNATIVE = "/api/v1", "/apis/serving.knative.dev/v1"
APPS, BATCH, LEASES = "/apis/apps/v1", "/apis/batch/v1", "/apis/coordination.k8s.io/v1"
NETWORK, RBAC = "/apis/networking.k8s.io/v1", "/apis/rbac.authorization.k8s.io/v1"
SCALERS = "/apis/autoscaling.internal.knative.dev/v1alpha1"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"


@dataclass(frozen=True)
class Try:
    """One request; ``admin`` is what an administrator gets for it, None where it is not asked."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    admin: int | None = 200

    @property
    def id(self) -> str:
        how = self.headers.get("Impersonate-User") or self.headers.get("Impersonate-Group")
        return f"{self.method} {self.path}" + (f" as {how}" if how else "")


def within(api: str, namespace: str, resource: str) -> str:
    return f"{api}/namespaces/{namespace}/{resource}"


_KINDS = [
    *(
        (CORE, kind)
        for kind in ["pods", "secrets", "configmaps", "services", "events", "endpoints"]
    ),
    *((CORE, kind) for kind in ["serviceaccounts", "persistentvolumeclaims"]),
    *((CORE, kind) for kind in ["resourcequotas", "limitranges"]),
    *((KNATIVE, kind) for kind in ["services", "revisions", "routes", "configurations"]),
    *((APPS, kind) for kind in ["deployments", "replicasets"]),
    *((BATCH, kind) for kind in ["jobs", "cronjobs"]),
    *((RBAC, kind) for kind in ["roles", "rolebindings"]),
    (LEASES, "leases"),
    (NETWORK, "networkpolicies"),
    (SCALERS, "podautoscalers"),
]
_OF_CLUSTER = [
    *((CORE, kind) for kind in ["namespaces", "nodes", "persistentvolumes"]),
    *((RBAC, kind) for kind in ["clusterroles", "clusterrolebindings"]),
    *(("/apis/storage.k8s.io/v1", kind) for kind in ["storageclasses", "csidrivers", "csinodes"]),
    ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
]
_POD = {"containers": [{"name": "c", "image": "busybox", "command": ["sleep", "1"]}]}
_TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": _POD | {"restartPolicy": "Never"}}
_GPU = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
_RULES = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
_SUBJECT = {"kind": "ServiceAccount", "name": "participant", "namespace": P01}
_ROLE_API = "rbac.authorization.k8s.io"
_CLUSTER_ADMIN = {"apiGroup": _ROLE_API, "kind": "ClusterRole", "name": "cluster-admin"}
_QUOTA = {"spec": {"hard": {"requests.nvidia.com/gpu": "9"}}}
_BINDING = {"roleRef": _CLUSTER_ADMIN, "subjects": [_SUBJECT]}
_VOLUME = {
    "capacity": {"storage": "1Gi"},
    "accessModes": ["ReadOnlyMany"],
    "persistentVolumeReclaimPolicy": "Retain",
    "csi": {
        "driver": "ossplugin.csi.alibabacloud.com",
        "volumeHandle": "stolen",
        "volumeAttributes": {"bucket": "qwenkit-sandbox", "path": "/another-prefix"},
        "nodePublishSecretRef": {"name": "stolen", "namespace": HOME},
    },
}


def made(version: str, kind: str, name: str = "hostile", **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


def service(name: str = "hostile", **spec: Any) -> dict[str, Any]:
    """Return a Knative Service of one container."""
    template = {"spec": {"containers": [{"image": "busybox"} | spec.pop("container", {})], **spec}}
    return made("serving.knative.dev/v1", "Service", name, spec={"template": template})


# What nobody but the instructor creates, and where: the participant's role has none of it.
_CREATED = [
    (CORE, "pods", made("v1", "Pod", spec=_POD)),
    (CORE, "serviceaccounts", made("v1", "ServiceAccount")),
    (CORE, "resourcequotas", made("v1", "ResourceQuota", **_QUOTA)),
    (CORE, "limitranges", made("v1", "LimitRange", spec={"limits": []})),
    (RBAC, "roles", made(f"{_ROLE_API}/v1", "Role", rules=_RULES)),
    (RBAC, "rolebindings", made(f"{_ROLE_API}/v1", "RoleBinding", **_BINDING)),
    (NETWORK, "networkpolicies", made("networking.k8s.io/v1", "NetworkPolicy", spec={
        "podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]})),
    (APPS, "deployments", made("apps/v1", "Deployment", spec={
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": _POD}})),
    (BATCH, "cronjobs", made("batch/v1", "CronJob", spec={
        "schedule": "* * * * *", "jobTemplate": {"spec": {"template": _TEMPLATE}}})),
]  # fmt: skip
_ELSEWHERE = [
    (CORE, "secrets", made("v1", "Secret", stringData={"a": "b"})),
    (CORE, "configmaps", made("v1", "ConfigMap", data={"a": "b"})),
    (KNATIVE, "services", service()),
    (LEASES, "leases", made("coordination.k8s.io/v1", "Lease", spec={"leaseDurationSeconds": 60})),
    (BATCH, "jobs", made("batch/v1", "Job", spec={"template": _TEMPLATE})),
    (CORE, "persistentvolumeclaims", made("v1", "PersistentVolumeClaim", spec={
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})),
]  # fmt: skip
# What is another's, or the instructor's: it may be neither read, changed nor removed.
_OTHERS = [
    (CORE, P02, "secrets/qwen-api-key", {"stringData": {"api-key": "mine"}}),
    (CORE, P02, "configmaps/workshop", {"data": {"slot": "{}"}}),
    (CORE, P02, "configmaps/progress", {"data": {"progress": "{}"}}),
    (CORE, P02, "persistentvolumeclaims/ws-p02", {"metadata": {"labels": {"a": "b"}}}),
    (CORE, P02, "resourcequotas/workshop", _QUOTA),
    (KNATIVE, P02, "services/qwen", {"metadata": {"labels": {"a": "b"}}}),
    (LEASES, P02, "leases/gpu-slot", {"spec": {"leaseDurationSeconds": 1}}),
    (RBAC, P02, "rolebindings/participant", {"subjects": [_SUBJECT]}),
    (CORE, HOME, "configmaps/slots", {"data": {"slots": "{}"}}),
]
_OWN = [  # in P01's own namespace, which the instructor keeps
    (CORE, "resourcequotas/workshop", _QUOTA),
    (CORE, "limitranges/workshop", {"spec": {"limits": []}}),
    (NETWORK, "networkpolicies/workshop", {"spec": {"ingress": [{}]}}),
    (RBAC, "roles/participant", {"rules": _RULES}),
    (RBAC, "rolebindings/participant", {"subjects": [_SUBJECT | {"name": "default"}]}),
    (CORE, "serviceaccounts/participant", {"metadata": {"labels": {"a": "b"}}}),
    (CORE, "configmaps/workshop", {"data": {"slot": '{"state": "granted", "gpus": 9}'}}),
]


def _reads() -> Iterator[Try]:
    for namespace in (P02, HOME):
        yield from (Try("GET", within(api, namespace, kind)) for api, kind in _KINDS)
    for namespace in ("kube-system", "knative-serving", "default"):
        # On some clusters one is not there; an empty list is an answer, too.
        yield from (
            Try("GET", within(api, namespace, kind))
            for api, kind in ((CORE, "secrets"), (CORE, "configmaps"), (CORE, "pods"))
        )
    yield from (Try("GET", f"{api}/{kind}") for api, kind in (*_KINDS, *_OF_CLUSTER))
    for api, kind in _KINDS[:4]:
        # An administrator's watch would last its second.
        yield Try("GET", f"{within(api, P02, kind)}?watch=1&timeoutSeconds=1", admin=None)
        yield Try("GET", f"{api}/{kind}?watch=1&timeoutSeconds=1", admin=None)
    # The same names by ways around: in a list by a field, and by an encoded path.
    yield Try("GET", f"{CORE}/secrets?fieldSelector=metadata.name%3Dqwen-api-key")
    yield Try("GET", f"{CORE}/configmaps?fieldSelector=metadata.namespace%3D{P02}")
    yield Try("GET", f"{CORE}/namespaces/{P02}")
    yield Try("GET", f"{CORE}/namespaces/{HOME}")
    yield Try("GET", f"{CORE}/nodes/gpu-node-1")
    yield Try("GET", f"{CORE}/persistentvolumes/{P01}")
    yield Try("GET", f"{CORE}/persistentvolumes/{P02}")
    yield Try("GET", f"{CORE}/nodes/gpu-node-1/proxy/pods", admin=None)
    yield from (Try("GET", path, admin=None) for path in ("/metrics", "/logs/", "/debug/pprof/"))
    yield Try("GET", within(CORE, P01, "secrets"))
    yield Try("GET", f"{within(CORE, P01, 'secrets')}?watch=1&timeoutSeconds=1", admin=None)
    yield Try("GET", within(CORE, P01, "secrets/another"), admin=404)


def _writes() -> Iterator[Try]:
    for namespace in (P01, P02, HOME):
        created = _CREATED if namespace == P01 else [*_CREATED, *_ELSEWHERE]
        for api, kind, body in created:
            # A participant's quota has no Job and no second claim: not even for the instructor.
            full = namespace == P02 and kind in ("jobs", "persistentvolumeclaims")
            yield Try("POST", within(api, namespace, kind), body, admin=403 if full else 201)
    for api, namespace, name, change in _OTHERS:
        yield Try("GET", within(api, namespace, name))
        yield Try("PATCH", within(api, namespace, name), change, {"Content-Type": MERGE})
        yield Try("DELETE", within(api, namespace, name))
    for api, name, change in _OWN:
        yield Try("PATCH", within(api, P01, name), change, {"Content-Type": MERGE})
        yield Try("DELETE", within(api, P01, name))
    for kind in ("secrets", "configmaps", "pods"):
        yield Try("DELETE", within(CORE, P02, kind))
    yield Try("DELETE", within(CORE, P01, "secrets"))
    yield Try("DELETE", within(CORE, P01, "configmaps"))
    yield Try("DELETE", within(KNATIVE, P02, "services"))
    yield Try("DELETE", within(LEASES, P02, "leases"))
    claim = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "qwenkit"}}}
    own = within(CORE, P01, f"persistentvolumeclaims/{P01}")
    yield Try("PATCH", own, claim, {"Content-Type": MERGE})
    yield Try("DELETE", own)
    loose = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    for namespace in (P01, P02):
        yield Try("PATCH", f"{CORE}/namespaces/{namespace}", loose, {"Content-Type": MERGE})
        yield Try("DELETE", f"{CORE}/namespaces/{namespace}")
    yield Try("POST", f"{CORE}/namespaces", made("v1", "Namespace"), admin=201)
    yield Try("POST", f"{CORE}/persistentvolumes", made("v1", "PersistentVolume", spec=_VOLUME),
              admin=201)  # fmt: skip
    yield Try("PATCH", f"{CORE}/persistentvolumes/{P01}", claim, {"Content-Type": MERGE})
    yield Try("DELETE", f"{CORE}/persistentvolumes/{P02}")
    wide = made(f"{_ROLE_API}/v1", "ClusterRoleBinding", **_BINDING)
    yield Try("POST", f"{RBAC}/clusterrolebindings", wide, admin=201)
    role = made(f"{_ROLE_API}/v1", "ClusterRole", rules=_RULES)
    yield Try("POST", f"{RBAC}/clusterroles", role, admin=201)
    yield Try("PATCH", f"{RBAC}/clusterroles/view", {"rules": _RULES}, {"Content-Type": MERGE})
    node = {"status": {"capacity": {"nvidia.com/gpu": "99"}}}
    yield Try("PATCH", f"{CORE}/nodes/gpu-node-1/status", node, {"Content-Type": MERGE})
    full = {"status": {"used": {"requests.nvidia.com/gpu": "0"}}}
    path = within(CORE, P01, "resourcequotas/workshop/status")
    yield Try("PATCH", path, full, {"Content-Type": MERGE})
    # An apply that would create is a creation, too.
    named = made("v1", "ResourceQuota", "applied", **_QUOTA)
    path = within(CORE, P01, "resourcequotas/applied?fieldManager=m")
    yield Try("PATCH", path, named, {"Content-Type": APPLY}, admin=201)


_TOKEN = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}


def _other_identities() -> Iterator[Try]:
    whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    for user in (
        *("admin", "system:admin", "kubernetes-admin", "system:kube-controller-manager"),
        f"system:serviceaccount:{P02}:participant",
        f"system:serviceaccount:{HOME}:keeper",
        f"system:serviceaccount:{P01}:default",
        "system:serviceaccount:kube-system:default",
    ):
        yield Try("POST", whoami, asked, {"Impersonate-User": user}, admin=201)
    name = f"system:serviceaccount:{P01}:participant"
    for group in ("system:masters", "system:nodes", f"system:serviceaccounts:{P02}"):
        headers = {"Impersonate-User": name, "Impersonate-Group": group}
        yield Try("POST", f"{whoami}?group={group}", asked, headers, admin=201)
    for namespace, account in (
        *((P01, "participant"), (P01, "default"), (P02, "participant")),
        *((HOME, "keeper"), (HOME, "default")),
    ):
        path = within(CORE, namespace, f"serviceaccounts/{account}/token")
        yield Try("POST", path, _TOKEN, admin=None if account == "keeper" else 201)


def _into_pods() -> Iterator[Try]:
    for namespace in (P01, P02):
        pod = within(CORE, namespace, "pods/qwen-00001")
        for way in ("exec?command=sh", "attach", "portforward?ports=8000"):
            yield Try("POST", f"{pod}/{way}", admin=None)
            yield Try("GET", f"{pod}/{way}", admin=None)
        yield Try("PATCH", f"{pod}/ephemeralcontainers", {"spec": {}}, {"Content-Type": MERGE},
                  admin=None)  # fmt: skip
        eviction = made("policy/v1", "Eviction", "qwen-00001")
        yield Try("POST", f"{pod}/eviction", eviction, admin=None)
    other = within(CORE, P02, "pods/qwen-00001")
    yield Try("GET", f"{other}/log", admin=404)
    yield Try("GET", f"{other}:8000/proxy/metrics", admin=None)
    yield Try("GET", within(CORE, P02, "services/qwen/proxy/v1/models"), admin=None)
    yield Try("GET", within(CORE, HOME, "services/keeper/proxy/"), admin=None)


TRIES = [*_reads(), *_writes(), *_other_identities(), *_into_pods()]
