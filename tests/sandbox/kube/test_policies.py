"""What a namespace allows: quotas, limits and the pods' security, in the API server's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.objects import utc_now
from qwenkit.sandbox.kube.reads.columns import columns
from qwenkit.sandbox.kube.storage.store import ObjectStore

GPU = "nvidia.com/gpu"
Obj = dict[str, Any]


@pytest.fixture
def store() -> ObjectStore:
    made = ObjectStore(Kinds())
    for name in ("default", "other"):
        made.create("Namespace", {"metadata": {"name": name}})
    return made


def named(name: str, **more: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": "default"}, **more}


def pod(name: str, *, requests: Obj | None = None, limits: Obj | None = None, **spec: Any) -> Obj:
    resources = {"requests": requests or {}, "limits": limits or {}}
    container = {"name": "c", "image": "i", "resources": resources, **spec.pop("container", {})}
    return named(name, spec={"containers": [container], **spec})


def quota(store: ObjectStore, name: str = "workshop", **hard: str) -> None:
    amounts = {key.replace("_", "."): amount for key, amount in hard.items()}
    store.create("ResourceQuota", named(name, spec={"hard": amounts}))


def refused(store: ObjectStore, obj: Obj, kind: str = "Pod") -> str:
    with pytest.raises(ApiError) as found:
        store.create(kind, obj)
    assert (found.value.status, found.value.reason) == (403, "Forbidden")
    return found.value.message


def test_a_quota_of_gpus(store: ObjectStore) -> None:
    store.create("ResourceQuota", named("workshop", spec={"hard": {f"requests.{GPU}": "1"}}))
    first = store.create("Pod", pod("a", limits={GPU: "1"}))
    store.create("Pod", pod("none"))
    gpu = f"requests.{GPU}"
    words = f"exceeded quota: workshop, requested: {gpu}=1, used: {gpu}=1, limited: {gpu}=1"
    assert refused(store, pod("b", limits={GPU: "1"})) == f'pods "b" is forbidden: {words}'
    # A pod that has ended takes nothing.
    store.update_status("Pod", {**first, "status": {"phase": "Failed"}})
    store.create("Pod", pod("b", limits={GPU: "1"}))


def test_several_resources_at_once(store: ObjectStore) -> None:
    quota(store, pods="1", requests_memory="4Gi", requests_cpu="1")
    store.create("Pod", pod("a", requests={"memory": "3Gi", "cpu": "500m"}))
    assert refused(store, pod("b", requests={"memory": "2Gi", "cpu": "100m"})) == (
        'pods "b" is forbidden: exceeded quota: workshop, requested: pods=1,requests.memory=2Gi, '
        "used: pods=1,requests.memory=3Gi, limited: pods=1,requests.memory=4Gi"
    )


def test_a_quota_of_memory_asks_each_container_to_state_it(store: ObjectStore) -> None:
    quota(store, requests_memory="4Gi", limits_cpu="4")
    assert refused(store, pod("a", requests={"memory": "1Gi"})) == (
        'pods "a" is forbidden: failed quota: workshop: must specify limits.cpu for: c'
    )


def test_storage_and_a_claim_that_grows(store: ObjectStore) -> None:
    quota(store, requests_storage="30Gi", persistentvolumeclaims="2")

    def claim(name: str, size: str) -> Obj:
        asked = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": size}}}
        return named(name, spec=asked)

    store.create("PersistentVolumeClaim", claim("a", "20Gi"))
    assert "used: requests.storage=20Gi, limited: requests.storage=30Gi" in refused(
        store, claim("b", "20Gi"), "PersistentVolumeClaim"
    )
    store.update("PersistentVolumeClaim", claim("a", "30Gi"))
    with pytest.raises(ApiError, match=r"requested: requests.storage=1Gi, used: .*=30Gi"):
        store.update("PersistentVolumeClaim", claim("a", "31Gi"))


def test_counts_of_any_kind(store: ObjectStore) -> None:
    service, config = "count/services.serving.knative.dev", "configmaps"
    store.create("ResourceQuota", named("counts", spec={"hard": {service: "1", config: "1"}}))
    store.create("KnativeService", named("a", spec={}))
    store.create("ConfigMap", named("a"))
    store.create("ConfigMap", {"metadata": {"name": "a", "namespace": "other"}})
    assert f"exceeded quota: counts, requested: {service}=1" in refused(
        store, named("b", spec={}), "KnativeService"
    )
    assert f"limited: {config}=1" in refused(store, named("b"), "ConfigMap")


def cells(kind: str, obj: Obj) -> Obj:
    now = utc_now()
    shown = columns(Kinds()[kind])
    return {column.name: column.cell(obj, now) for column in shown if column.name != "Age"}


def test_what_kubectl_shows(store: ObjectStore) -> None:
    made = store.create("ResourceQuota", named("workshop", spec={"hard": {"pods": "4"}}))
    hard = {"pods": "4", "limits.cpu": "2", f"requests.{GPU}": "1"}
    made["status"] = {"hard": hard, "used": {"pods": "1"}}
    assert cells("ResourceQuota", made) == {
        "Name": "workshop",
        "Request": "pods: 1/4, requests.nvidia.com/gpu: 0/1",
        "Limit": "limits.cpu: 0/2",
    }
    lease = store.create("Lease", named("keeper", spec={"holderIdentity": "me"}))
    assert cells("Lease", lease) == {"Name": "keeper", "Holder": "me"}
    policy = store.create("NetworkPolicy", named("open", spec={"podSelector": {}}))
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert cells("NetworkPolicy", policy) == {"Name": "open", "Pod-Selector": "<none>"}
    template = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}}
    cron = {"schedule": "0 * * * *", "jobTemplate": template}
    assert cells("CronJob", store.create("CronJob", named("clean", spec=cron))) == {
        "Name": "clean",
        "Schedule": "0 * * * *",
        "Timezone": "<none>",
        "Suspend": "False",
        "Active": 0,
        "Last Schedule": "<none>",
    }


def test_a_limit_range_completes_and_bounds(store: ObjectStore) -> None:
    container = {
        "type": "Container",
        "defaultRequest": {"cpu": "100m"},
        "default": {"memory": "1Gi"},
        "max": {"cpu": "2", "memory": "4Gi"},
    }
    claims = {"type": "PersistentVolumeClaim", "max": {"storage": "20Gi"}}
    store.create("LimitRange", named("workshop", spec={"limits": [container, claims]}))
    made = store.create("Pod", pod("a"))
    assert made["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu, memory request for container c; "
        "cpu, memory limit for container c"
    )
    assert refused(store, pod("b", limits={"cpu": "3", "memory": "8Gi"})) == (
        'pods "b" is forbidden: [maximum cpu usage per Container is 2, but limit is 3, '
        "maximum memory usage per Container is 4Gi, but limit is 8Gi]"
    )
    with pytest.raises(ApiError, match="must be less than or equal to memory limit of 1Gi"):
        store.create("Pod", pod("asks", requests={"memory": "2Gi"}))
    size = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "30Gi"}}}
    assert "maximum storage usage per PersistentVolumeClaim is 20Gi, but request is 30Gi" in (
        refused(store, named("c", spec=size), "PersistentVolumeClaim")
    )


PRIVILEGED = {"securityContext": {"privileged": True}}
BREAKS: list[tuple[Obj, str]] = [
    ({"hostNetwork": True, "hostPID": True}, "host namespaces (hostNetwork=true, hostPID=true)"),
    (
        {"container": PRIVILEGED},
        'privileged (container "c" must not set securityContext.privileged=true)',
    ),
    (
        {"container": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}}}},
        'non-default capabilities (container "c" must not include "SYS_ADMIN" in '
        "securityContext.capabilities.add)",
    ),
    (
        {"volumes": [{"name": v, "hostPath": {"path": "/"}} for v in "ab"]},
        'hostPath volumes (volumes "a", "b")',
    ),
    (
        {"container": {"ports": [{"containerPort": 80, "hostPort": 80}]}},
        'hostPort (container "c" uses hostPort 80)',
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
]


@pytest.mark.parametrize(
    ("spec", "words"), BREAKS, ids=[words.split(" (")[0] for _, words in BREAKS]
)
def test_pod_security(store: ObjectStore, spec: Obj, words: str) -> None:
    space = store.get("Namespace", None, "default")
    store.create("Pod", pod("before", **json.loads(json.dumps(spec))))
    space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline"
    store.update("Namespace", space)
    store.create("Pod", pod("plain"))
    assert refused(store, pod("a", **json.loads(json.dumps(spec)))) == (
        f'pods "a" is forbidden: violates PodSecurity "baseline:latest": {words}'
    )
