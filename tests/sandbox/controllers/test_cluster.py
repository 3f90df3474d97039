"""What the controllers make of other names, later arrivals, restarts, splits and deletions."""

from __future__ import annotations

import paced
import pytest
from controllers_world import Stage, play, workload

from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.objects import Object, at, condition


def ready_message(stage: Stage, kind: str, name: str) -> str:
    return condition(stage.store.find(kind, "default", name) or {}, "Ready").get("message", "")


def pods_of(stage: Stage, revision: str) -> list[Object]:
    pods = stage.store.list("Pod", "default", {"serving.knative.dev/revision": revision})
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def test_other_names_and_namespaces_become_ready() -> None:
    async def scene(stage: Stage) -> None:
        stage.store.create("Namespace", {"metadata": {"name": "team-7"}})
        stage.add_claim("team-7")
        long = "a-service-with-a-name-that-needs-all-of-the-space-it-can-get-1"
        for name in ("chat", long):
            stage.service(name, "team-7")
        for name in ("chat", long):
            await stage.eventually(lambda name=name: stage.ready("KnativeService", name, "team-7"))
        status = stage.store.get("KnativeService", "team-7", "chat")["status"]
        assert status["url"] == "http://chat.team-7.example.com"
        assert status["address"]["url"] == "http://chat.team-7.svc.cluster.local"
        names = [deploy["metadata"]["name"] for deploy in stage.store.list("Deployment", "team-7")]
        assert "chat-00001-deployment" in names
        assert all(len(name) <= 63 for name in names)

    play(scene)


def test_a_claim_that_comes_later_makes_the_service_ready() -> None:
    async def scene(stage: Stage) -> None:
        stage.service("qwen")
        reason = 'persistentvolumeclaim "llm-model" not found'
        await stage.eventually(lambda: reason in ready_message(stage, "Revision", "qwen-00001"))
        stage.add_claim()
        await stage.eventually(lambda: stage.ready("KnativeService", "qwen"))

    play(scene, with_claim=False)


def plain_pod(name: str, **spec: object) -> Object:
    containers = [{"name": "c", "image": "docker.io/lab/app:1"}]
    metadata = {"name": name, "namespace": "default"}
    return {"metadata": metadata, "spec": {"containers": containers, **spec}}


def test_a_pod_goes_where_its_selector_and_tolerations_let_it() -> None:
    async def scene(stage: Stage) -> None:
        (node,) = stage.store.list("Node")
        node["spec"]["taints"] = [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
        node["metadata"]["labels"]["card"] = "A10"
        stage.store.update("Node", node)

        def why(name: str) -> str:
            pod = stage.store.get("Pod", "default", name)
            return condition(pod, "PodScheduled").get("message", "")

        wrong = {"key": "gpu", "value": "no", "effect": "NoSchedule"}
        right = {"key": "gpu", "value": "yes"}
        stage.store.create("Pod", plain_pod("tainted", tolerations=[wrong]))
        stage.store.create(
            "Pod", plain_pod("other", tolerations=[right], nodeSelector={"card": "T4"})
        )
        stage.store.create(
            "Pod", plain_pod("good", tolerations=[wrong, right], nodeSelector={"card": "A10"})
        )
        await stage.eventually(
            lambda: at(stage.store.get("Pod", "default", "good"), "spec", "nodeName")
        )
        await stage.eventually(lambda: "1 node(s) had untolerated taint(s)" in why("tainted"))
        await stage.eventually(lambda: "didn't match Pod's node affinity/selector" in why("other"))
        with pytest.raises(ApiError, match='pod rejected: RuntimeClass "nvidia" not found'):
            stage.store.create("Pod", plain_pod("runtime", runtimeClassName="nvidia"))
        stage.store.create("RuntimeClass", {"metadata": {"name": "nvidia"}, "handler": "nvidia"})
        stage.store.create("Pod", plain_pod("runtime", runtimeClassName="nvidia"))

    play(scene)


def test_a_pod_that_waits_for_a_gpu_gets_the_one_that_becomes_free() -> None:
    async def scene(stage: Stage) -> None:
        await stage.deploy("first")
        stage.service("second")
        message = (
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, "
            "preemption: 0/1 nodes are available: "
            "1 No preemption victims found for incoming pod."
        )
        await stage.eventually(lambda: ready_message(stage, "Revision", "second-00001") == message)
        stage.store.delete("KnativeService", "default", "first")
        await stage.eventually(lambda: stage.ready("KnativeService", "second"))

    play(scene, gpus=1)


def test_traffic_is_split_and_tagged_as_the_service_says() -> None:
    async def scene(stage: Stage) -> None:
        await stage.deploy("qwen")
        stage.change("qwen", target="4")
        await stage.eventually(lambda: stage.ready("Revision", "qwen-00002"))
        await stage.eventually(lambda: stage.ready("KnativeService", "qwen"))
        found = stage.store.get("KnativeService", "default", "qwen")
        found["spec"]["traffic"] = [
            {"revisionName": "qwen-00001", "latestRevision": False, "percent": 90, "tag": "old"},
            {"latestRevision": True, "percent": 10},
        ]
        stage.store.update("KnativeService", found)
        await stage.eventually(lambda: len(stage.status("KnativeService", "qwen")["traffic"]) == 2)
        await stage.eventually(lambda: stage.ready("KnativeService", "qwen"))
        assert stage.status("KnativeService", "qwen")["traffic"] == [
            {
                "revisionName": "qwen-00001",
                "latestRevision": False,
                "percent": 90,
                "tag": "old",
                "url": "http://old-qwen.default.example.com",
            },
            {"revisionName": "qwen-00002", "latestRevision": True, "percent": 10},
        ]
        rules = stage.store.get("Ingress", "default", "qwen")["spec"]["rules"]
        shares = {
            rule["hosts"][-1]: [
                (split["serviceName"], split["percent"])
                for split in rule["http"]["paths"][0]["splits"]
            ]
            for rule in rules
        }
        assert shares["qwen.default.example.com"] == [("qwen-00001", 90), ("qwen-00002", 10)]
        assert shares["old-qwen.default.example.com"] == [("qwen-00001", 100)]
        assert stage.store.find("Service", "default", "old-qwen") is not None
        revision = stage.store.get("Revision", "default", "qwen-00001")
        assert revision["metadata"]["labels"]["serving.knative.dev/routingState"] == "active"

    play(scene)


def test_traffic_to_a_revision_that_is_not_there_is_refused_by_name() -> None:
    async def scene(stage: Stage) -> None:
        traffic = [{"revisionName": "qwen-00009", "latestRevision": False, "percent": 100}]
        stage.service("qwen", traffic=traffic)
        message = 'Revision "qwen-00009" referenced in traffic not found.'
        await stage.eventually(lambda: ready_message(stage, "KnativeService", "qwen") == message)
        found = stage.store.get("KnativeService", "default", "qwen")
        assert condition(found, "RoutesReady")["reason"] == "RevisionMissing"

    play(scene)


def test_min_scale_waits_for_all_its_pods_and_keeps_them() -> None:
    async def scene(stage: Stage) -> None:
        stage.service("qwen", min_scale="2")
        await stage.eventually(lambda: stage.ready("Revision", "qwen-00001"))
        assert len(pods_of(stage, "qwen-00001")) == 2

    play(scene)


def test_load_scales_out_and_a_deleted_pod_is_replaced() -> None:
    async def scene(stage: Stage) -> None:
        await stage.deploy("qwen", target="2", max_scale="3")
        for _ in range(20):
            stage.traffic.enter("default", "qwen-00001")
        await stage.eventually(lambda: len(pods_of(stage, "qwen-00001")) == 3)
        autoscaler = stage.store.get("PodAutoscaler", "default", "qwen-00001")
        assert autoscaler["status"]["desiredScale"] == 3
        victim = pods_of(stage, "qwen-00001")[0]["metadata"]["name"]
        stage.store.delete("Pod", "default", victim)
        await stage.eventually(lambda: stage.store.find("Pod", "default", victim) is None)
        await stage.eventually(lambda: len(pods_of(stage, "qwen-00001")) == 3)

    play(scene, gpus=8)


def test_controllers_that_start_again_find_nothing_to_do() -> None:
    async def whole() -> None:
        stage = Stage()
        async with stage.running():
            await stage.deploy("qwen")
            autoscaler = ("PodAutoscaler", "qwen-00001")
            await stage.eventually(lambda: stage.status(*autoscaler)["desiredScale"] == 1)
        before = stage.store.revision
        async with stage.running():
            stage.store.create("ConfigMap", {"metadata": {"name": "mark", "namespace": "default"}})
            stage.change("qwen", target="3")  # they work again: a revision comes
            await stage.eventually(lambda: stage.store.find("Revision", "default", "qwen-00002"))
        changed = stage.store.changes_since("Revision", before)
        assert {change.object["metadata"]["name"] for change in changed} == {"qwen-00002"}
        for kind in ("Deployment", "PodAutoscaler", "Route", "Ingress", "Pod", "Service"):
            changes = stage.store.changes_since(kind, before)
            assert not [c for c in changes if "qwen-00002" not in c.object["metadata"]["name"]]

    paced.run(whole())


def test_what_happened_while_the_controllers_were_away_is_made_up_for() -> None:
    async def whole() -> None:
        stage = Stage()
        async with stage.running():
            await stage.deploy("qwen")
        stage.store.delete("KnativeService", "default", "qwen")
        for pod in stage.store.list("Pod"):
            stage.store.delete("Pod", "default", pod["metadata"]["name"], grace_seconds=0)
        stage.service("other")
        async with stage.running():
            await stage.eventually(lambda: stage.ready("KnativeService", "other"))
            await stage.eventually(lambda: stage.store.find("Route", "default", "qwen") is None)
            await stage.eventually(lambda: stage.store.find("Ingress", "default", "qwen") is None)

    paced.run(whole())


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
def test_deletion_takes_everything_with_it(propagation: str) -> None:
    async def scene(stage: Stage) -> None:
        await stage.deploy("qwen")
        stage.store.delete("KnativeService", "default", "qwen", propagation=propagation)
        kinds = ("KnativeService", "Configuration", "Revision", "Route", "PodAutoscaler", "Ingress")
        more = ("ServerlessService", "Deployment", "ReplicaSet", "Pod", "Service", "Endpoints")
        await stage.eventually(
            lambda: not any(stage.store.list(kind, "default") for kind in kinds + more)
        )

    play(scene)


def test_orphans_stay() -> None:
    async def scene(stage: Stage) -> None:
        await stage.deploy("qwen")
        stage.store.delete("KnativeService", "default", "qwen", propagation="Orphan")
        gone = stage.store.find
        await stage.eventually(lambda: gone("KnativeService", "default", "qwen") is None)
        found = stage.store.get("Configuration", "default", "qwen")
        assert found["metadata"].get("ownerReferences", []) == []

    play(scene)


def test_a_deployment_adopts_the_replica_set_that_its_predecessor_left() -> None:
    async def scene(stage: Stage) -> None:
        await stage.deploy("qwen")
        name = "qwen-00001-deployment"
        first = stage.store.get("Deployment", "default", name)["metadata"]["uid"]
        stage.store.delete("Deployment", "default", name, propagation="Orphan")

        def adopted() -> bool:
            (found,) = stage.store.list("ReplicaSet", "default")
            uids = [owner["uid"] for owner in found["metadata"].get("ownerReferences", [])]
            return bool(uids) and first not in uids

        await stage.eventually(adopted)

    play(scene)


def test_a_namespace_goes_with_all_that_is_in_it() -> None:
    async def scene(stage: Stage) -> None:
        stage.store.create("Namespace", {"metadata": {"name": "team-7"}})
        stage.add_claim("team-7")
        stage.service("qwen", "team-7")
        await stage.eventually(lambda: stage.ready("KnativeService", "qwen", "team-7"))
        stage.store.delete("Namespace", None, "team-7")
        await stage.eventually(lambda: stage.store.find("Namespace", None, "team-7") is None)

    play(scene)


def test_a_claim_in_use_waits_for_its_pod() -> None:
    async def scene(stage: Stage) -> None:
        await stage.deploy("qwen")
        stage.store.delete("PersistentVolumeClaim", "default", "llm-model")
        stage.store.delete("PersistentVolume", None, "default-llm-model")
        await stage.eventually(lambda: pods_of(stage, "qwen-00001"))
        claim = stage.store.get("PersistentVolumeClaim", "default", "llm-model")
        assert claim["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
        stage.store.delete("KnativeService", "default", "qwen")
        for kind in ("PersistentVolumeClaim", "PersistentVolume"):
            await stage.eventually(lambda kind=kind: not stage.store.list(kind))

    play(scene)


def test_an_image_that_resolves_later_is_deployed() -> None:
    async def scene(stage: Stage) -> None:
        stage.unknown_hosts.add("registry.test")
        stage.service("qwen", image="registry.test/vllm:1")
        reason = 'Unable to fetch image "registry.test/vllm:1"'
        await stage.eventually(lambda: reason in ready_message(stage, "Revision", "qwen-00001"))
        stage.unknown_hosts.clear()
        await stage.eventually(lambda: stage.ready("KnativeService", "qwen"))

    play(scene)


def test_a_plain_deployment_rolls_over_to_its_new_template() -> None:
    async def scene(stage: Stage) -> None:
        labels = {"app": "web"}
        web = workload(
            "Deployment", "web", labels, 2, image="docker.io/library/web:1", command=["serve"]
        )
        stage.store.create("Deployment", web)

        def images() -> set[str]:
            pods = stage.store.list("Pod", "default", labels)
            living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
            return {pod["spec"]["containers"][0]["image"] for pod in living}

        def complete() -> bool:
            found = stage.store.get("Deployment", "default", "web")
            reason = condition(found, "Progressing").get("reason")
            return reason == "NewReplicaSetAvailable" and at(found, "status", "readyReplicas") == 2

        await stage.eventually(complete)
        found = stage.store.get("Deployment", "default", "web")
        found["spec"]["template"]["spec"]["containers"][0]["image"] = "docker.io/library/web:2"
        stage.store.update("Deployment", found)
        await stage.eventually(lambda: images() == {"docker.io/library/web:2"} and complete())
        revision = stage.store.get("Deployment", "default", "web")["metadata"]["annotations"]
        assert revision["deployment.kubernetes.io/revision"] == "2"

    play(scene)
