"""A quota that refuses pods is seen from the ReplicaSet up to the Knative Service, and released."""

from __future__ import annotations

from controllers_world import Stage, play

from qwenkit.sandbox.kube.objects import at, condition

GPU = "requests.nvidia.com/gpu"


def set_quota(stage: Stage, gpus: int) -> None:
    found = stage.store.find("ResourceQuota", "default", "workshop")
    metadata = {"name": "workshop", "namespace": "default"}
    wanted = {"metadata": metadata, "spec": {"hard": {GPU: str(gpus), "count/pods": "9"}}}
    if found:
        stage.store.update("ResourceQuota", wanted)
    else:
        stage.store.create("ResourceQuota", wanted)


async def used_up(stage: Stage) -> None:
    set_quota(stage, 0)
    stage.service("qwen")
    said = "failed with message: pods"

    def why() -> str:
        service = {"status": stage.status("KnativeService", "qwen")}
        return str(condition(service, "ConfigurationsReady").get("message"))

    await stage.eventually(lambda: said in why())
    assert "exceeded quota: workshop, requested: requests.nvidia.com/gpu=1" in why()
    revision = {"status": stage.status("Revision", "qwen-00001")}
    assert condition(revision, "ResourcesAvailable")["reason"] == "FailedCreate"
    (deployment,) = stage.store.list("Deployment", "default")
    failure = condition(deployment, "ReplicaFailure")
    assert (failure["status"], failure["reason"]) == ("True", "FailedCreate")
    assert ("Warning", "FailedCreate") in {
        (kind, reason) for kind, reason, _ in _events_of_replica_sets(stage)
    }
    set_quota(stage, 1)
    await stage.serving("qwen")
    (deployment,) = stage.store.list("Deployment", "default")
    assert not condition(deployment, "ReplicaFailure")
    used = {GPU: "1", "count/pods": "1"}
    await stage.eventually(lambda: at(stage.status("ResourceQuota", "workshop"), "used") == used)


def _events_of_replica_sets(stage: Stage) -> set[tuple[str, str, str]]:
    found = stage.store.list("Event", "default")
    return {
        (event["type"], event["reason"], event["message"])
        for event in found
        if event["involvedObject"]["kind"] == "ReplicaSet"
    }


def test_a_quota_refuses_pods_until_it_is_raised() -> None:
    play(used_up)
