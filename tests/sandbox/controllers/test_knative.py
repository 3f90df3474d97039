"""What Knative's controllers do in cases that no recording shows: updates that fail, traffic
that moves, scale to and from zero, objects made or changed by hand, old revisions."""

from __future__ import annotations

from typing import Any

from controllers_world import Stage, play

from qwenkit.sandbox.kube.objects import Object, at, condition

NEW = [("Unknown", "OutOfDate"), ("Unknown", "RevisionMissing")]
ROUTED = [("Unknown", "IngressNotConfigured"), ("Unknown", "Uninitialized"), ("True", "")]
PREFIX = "autoscaling.knative.dev/"


def abridges(seen: list[tuple[str, str]], expected: list[tuple[str, str]]) -> bool:
    """Return whether ``seen`` is ``expected`` but for states that were too short to be seen."""
    rest = iter(expected)
    return all(state in rest for state in seen) and seen[-1] == expected[-1]


def conditions(stage: Stage, kind: str, name: str) -> dict[str, tuple[str, str]]:
    found = stage.store.get(kind, "default", name)
    return {c["type"]: (c["status"], c.get("reason", "")) for c in found["status"]["conditions"]}


def latest(percent: int = 100, **more: Any) -> Object:
    return {"latestRevision": True, "percent": percent, **more}


def pinned(revision: str, percent: int = 100, **more: Any) -> Object:
    return {"revisionName": revision, "latestRevision": False, "percent": percent, **more}


def external_hosts(stage: Stage, name: str) -> list[str]:
    rules = stage.store.get("Ingress", "default", name)["spec"]["rules"]
    return [rule["hosts"][0] for rule in rules if rule["visibility"] == "ExternalIP"]


def test_a_failed_update_leaves_the_good_revision_serving_and_is_rolled_back() -> None:
    async def scene(stage: Stage) -> None:
        await stage.deploy("chat")
        found = stage.store.get("KnativeService", "default", "chat")
        template = found["spec"]["template"]
        template["spec"]["containers"][0]["command"] = ["sh", "-c", "exit 1"]
        key = "serving.knative.dev/progress-deadline"
        template["metadata"]["annotations"][key] = "20s"
        stage.store.update("KnativeService", found)
        failed = ("False", "RevisionFailed")
        await stage.eventually(lambda: failed in stage.ready_states("KnativeService", "chat"))
        assert abridges(
            stage.ready_states("KnativeService", "chat"),
            [*NEW, *ROUTED, ("Unknown", "OutOfDate"), ("Unknown", ""), failed],
        )
        assert conditions(stage, "KnativeService", "chat")["RoutesReady"] == ("True", "")
        status = stage.status("KnativeService", "chat")
        assert status["latestReadyRevisionName"] == "chat-00001"
        assert [target["revisionName"] for target in status["traffic"]] == ["chat-00001"]
        words = 'Latest created revision "chat-00002" has failed'
        assert ("Warning", "LatestCreatedFailed", words) in stage.events("Configuration", "chat")

        stage.send("chat", pinned("chat-00001"))
        reserve = {"serving.knative.dev/routingState": "reserve"}
        await stage.eventually(lambda: stage.store.list("Revision", "default", reserve))
        # Traffic is where it should be, but the latest revision is still a failed one.
        assert conditions(stage, "KnativeService", "chat")["Ready"] == failed
        autoscaler = stage.store.get("PodAutoscaler", "default", "chat-00002")
        assert autoscaler["spec"]["reachability"] == "Unreachable"

    play(scene)


def test_a_service_deleted_in_the_middle_of_a_rollout_leaves_nothing() -> None:
    async def scene(stage: Stage) -> None:
        stage.service("chat")
        stage.service("other")
        await stage.serving("chat")
        stage.change("chat", target="3")
        await stage.eventually(lambda: stage.store.find("Deployment", "default", second))
        stage.store.delete("KnativeService", "default", "chat")
        kinds = ("Configuration", "Revision", "Route", "PodAutoscaler", "ServerlessService")
        more = ("Ingress", "Deployment", "ReplicaSet", "Pod", "Service", "Endpoints")
        await stage.eventually(
            lambda: (
                not any(
                    "chat" in obj["metadata"]["name"]
                    for kind in kinds + more
                    for obj in stage.store.list(kind, "default")
                )
            )
        )
        await stage.eventually(lambda: stage.ready("KnativeService", "other"))

    second = "chat-00002-deployment"
    play(scene)


def test_an_initial_scale_of_zero_is_ready_without_a_pod() -> None:
    async def scene(stage: Stage) -> None:
        stage.set_config("config-autoscaler", allow_zero_initial_scale="true")
        await stage.deploy("zero", initial_scale="0")
        assert stage.store.list("Pod") == []
        assert stage.ready_states("PodAutoscaler", "zero-00001") == [("False", "NoTraffic")]
        assert conditions(stage, "Revision", "zero-00001") == {
            "Active": ("False", "NoTraffic"),
            "ContainerHealthy": ("True", ""),
            "Ready": ("True", ""),
            "ResourcesAvailable": ("True", ""),
        }
        stage.request("default", "zero")
        await stage.eventually(
            lambda: stage.ready_states("PodAutoscaler", "zero-00001")[-1] == ("True", "")
        )
        stage.answered()
        assert abridges(
            stage.ready_states("PodAutoscaler", "zero-00001"),
            [("False", "NoTraffic"), ("Unknown", "Queued"), ("Unknown", "NotReady"), ("True", "")],
        )

    play(scene)


def test_a_route_and_a_configuration_work_without_a_service() -> None:
    async def scene(stage: Stage) -> None:
        route = {"traffic": [{"configurationName": "conf", **latest()}]}
        stage.store.create("Route", {"metadata": meta("web"), "spec": route})
        missing = ("False", "ConfigurationMissing")
        await stage.eventually(lambda: stage.ready_states("Route", "web") == [missing])
        containers = [{"name": "c", "image": "docker.io/a/b:1"}]
        spec = {"template": {"spec": {"containers": containers}}}
        stage.store.create("Configuration", {"metadata": meta("conf"), "spec": spec})
        await stage.eventually(lambda: stage.ready_states("Route", "web")[-1] == ("True", ""))
        told = [missing, ("Unknown", "RevisionMissing"), *ROUTED]
        assert abridges(stage.ready_states("Route", "web"), told)
        state = "serving.knative.dev/routingState"
        labels = stage.store.get("Revision", "default", "conf-00001")["metadata"]["labels"]
        assert (labels[state], labels.get("serving.knative.dev/service")) == ("active", None)
        stage.store.delete("Route", "default", "web")
        await stage.eventually(lambda: stage.store.find("Ingress", "default", "web") is None)
        labels = stage.store.get("Revision", "default", "conf-00001")["metadata"]["labels"]
        assert labels[state] == "reserve"

    def meta(name: str) -> Object:
        return {"name": name, "namespace": "default"}

    play(scene)


def test_a_name_that_another_service_of_kubernetes_has_is_not_taken_from_it() -> None:
    async def scene(stage: Stage) -> None:
        metadata = {"name": "busy", "namespace": "default"}
        stage.store.create("Service", {"metadata": metadata, "spec": {"ports": [{"port": 80}]}})
        stage.service("busy")
        taken = ("False", "NotOwned")
        await stage.eventually(lambda: taken in stage.ready_states("KnativeService", "busy"))
        words = 'There is an existing placeholder Service "busy" that we do not own.'
        found = stage.store.get("KnativeService", "default", "busy")
        assert condition(found, "Ready")["message"] == words
        error = 'route: "busy" does not own Service: "busy"'
        await stage.eventually(
            lambda: ("Warning", "InternalError", error) in stage.events("Route", "busy")
        )
        stage.store.delete("Service", "default", "busy")
        await stage.serving("busy")

    play(scene)


def test_a_revision_name_that_is_taken_moves_no_traffic() -> None:
    async def scene(stage: Stage) -> None:
        await stage.deploy("chat")
        rename(stage, "chat-two", 200)
        await stage.serving("chat")
        rename(stage, "chat-00001", 100)
        taken = ("False", "RevisionNameTaken")
        await stage.eventually(lambda: taken in stage.ready_states("KnativeService", "chat"))
        found = stage.store.get("KnativeService", "default", "chat")
        assert condition(found, "ConfigurationsReady")["message"] == (
            "Revision creation failed with message: "
            'revisions.serving.knative.dev "chat-00001" already exists.'
        )
        assert found["status"]["traffic"][0]["revisionName"] == "chat-two"

    def rename(stage: Stage, name: str, timeout_s: int) -> None:
        found = stage.store.get("KnativeService", "default", "chat")
        template = found["spec"]["template"]
        template["metadata"]["name"] = name
        template["spec"]["timeoutSeconds"] = timeout_s
        stage.store.update("KnativeService", found)

    play(scene)


def test_only_the_cluster_sees_what_is_labelled_so() -> None:
    async def whole_service(stage: Stage) -> None:
        label = {"networking.knative.dev/visibility": "cluster-local"}
        await stage.deploy("inner", metadata={"labels": label})
        url = "http://inner.default.svc.cluster.local"
        assert stage.status("KnativeService", "inner")["url"] == url
        assert external_hosts(stage, "inner") == []

    async def one_tag(stage: Stage) -> None:
        await stage.deploy("chat", traffic=[latest(tag="test")])
        assert external_hosts(stage, "chat") == [
            "chat.default.example.com",
            "test-chat.default.example.com",
        ]
        label = {"networking.knative.dev/visibility": "cluster-local"}
        placeholder = stage.store.get("Service", "default", "test-chat")
        placeholder["metadata"]["labels"] |= label
        stage.store.update("Service", placeholder)
        await stage.eventually(lambda: len(external_hosts(stage, "chat")) == 1)
        url = "http://test-chat.default.svc.cluster.local"
        await stage.eventually(lambda: urls(stage) == [url])

    def urls(stage: Stage) -> list[str]:
        status = stage.status("KnativeService", "chat")
        return [target["url"] for target in status["traffic"]]

    play(whole_service, one_tag)


def test_routes_follow_the_clusters_domains() -> None:
    async def scene(stage: Stage) -> None:
        stage.service("chat")
        stage.service("prod", metadata={"labels": {"stage": "prod"}})
        await stage.serving("chat")
        await stage.serving("prod")
        found = stage.store.get("ConfigMap", "knative-serving", "config-domain")
        found["data"] |= {"lab.test": "", "big.test": "selector:\n  stage: prod\n"}
        stage.store.update("ConfigMap", found)
        await stage.eventually(lambda: external_hosts(stage, "prod") == ["prod.default.big.test"])
        # Of two that fit equally well, the first of the alphabet.
        assert external_hosts(stage, "chat") == ["chat.default.example.com"]

    play(scene)


def test_changes_by_hand_are_kept_or_undone_as_knative_does() -> None:
    async def restarted(stage: Stage) -> None:
        await stage.deploy("chat")
        name = "chat-00001-deployment"
        found = stage.store.get("Deployment", "default", name)
        note = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
        found["spec"]["template"]["metadata"]["annotations"] |= note
        stage.store.update("Deployment", found)
        await stage.eventually(lambda: len(stage.store.list("ReplicaSet", "default")) == 2)
        stage.change("chat", target="3")  # the revision is looked at again
        await stage.eventually(lambda: stage.store.find("Revision", "default", "chat-00002"))
        template = stage.store.get("Deployment", "default", name)["spec"]["template"]
        assert note.items() <= template["metadata"]["annotations"].items()

    async def annotated(stage: Stage) -> None:
        await stage.deploy("chat", max_scale="3")
        found = stage.store.get("Revision", "default", "chat-00001")
        found["metadata"]["annotations"][f"{PREFIX}target"] = "7"
        del found["metadata"]["annotations"][f"{PREFIX}max-scale"]
        stage.store.update("Revision", found)
        await stage.eventually(lambda: scaling(stage).get("target") == "7")
        assert "max-scale" not in scaling(stage)
        assert scaling(stage)["metric"] == "concurrency"

    async def deleted(stage: Stage) -> None:
        await stage.deploy("chat")
        before = uid(stage)
        stage.store.delete("Revision", "default", "chat-00001")
        pods = {pod["metadata"]["uid"] for pod in stage.store.list("Pod", "default")}
        await stage.eventually(lambda: uid(stage) not in (before, None))
        await stage.eventually(lambda: stage.ready("Revision", "chat-00001"))
        await stage.serving("chat")
        await stage.eventually(
            lambda: {pod["metadata"]["uid"] for pod in stage.store.list("Pod", "default")} - pods
        )

    def uid(stage: Stage) -> object:
        return at(stage.store.find("Revision", "default", "chat-00001"), "metadata", "uid")

    def scaling(stage: Stage) -> dict[str, str]:
        found = stage.store.get("PodAutoscaler", "default", "chat-00001")["metadata"]["annotations"]
        return {k.removeprefix(PREFIX): v for k, v in found.items() if k.startswith(PREFIX)}

    play(restarted, annotated, deleted)


def test_revisions_beyond_the_kept_ones_are_collected() -> None:
    async def scene(stage: Stage) -> None:
        stage.set_config("config-gc", min_non_active_revisions="0", max_non_active_revisions="1")
        await stage.deploy("chat")
        for number in range(2, 5):
            stage.change("chat", target=str(number))
            await stage.eventually(
                lambda number=number: stage.ready("Revision", f"chat-{number:05d}")
            )
            await stage.serving("chat")
        left = {"chat-00003", "chat-00004"}
        await stage.eventually(
            lambda: {r["metadata"]["name"] for r in stage.store.list("Revision", "default")} == left
        )
        await stage.serving("chat")
        assert stage.store.find("Deployment", "default", "chat-00001-deployment") is None

    play(scene, gpus=8)


def test_a_rollout_with_a_duration_moves_the_traffic_in_steps() -> None:
    async def scene(stage: Stage) -> None:
        notes = {"annotations": {"serving.knative.dev/rollout-duration": "20s"}}
        await stage.deploy("chat", metadata=notes)
        stage.change("chat", target="3")
        await stage.eventually(lambda: shares(stage) == [("chat-00002", 100)])
        await stage.serving("chat")
        told = [*NEW, *ROUTED, ("Unknown", "OutOfDate"), ("Unknown", "")]
        told += [("Unknown", "TrafficNotMigrated"), ("Unknown", "RolloutInProgress"), *ROUTED]
        assert abridges(stage.ready_states("KnativeService", "chat"), told)
        assert ("Unknown", "RolloutInProgress") in stage.ready_states("Route", "chat")
        splits = [
            [s["percent"] for s in obj["spec"]["rules"][1]["http"]["paths"][0]["splits"]]
            for _, _, obj in stage.lines
            if obj.get("kind") == "Ingress"
        ]
        assert [99, 1] in splits
        assert all(sum(percents) == 100 for percents in splits)
        newest = [percents[-1] for percents in splits if len(percents) == 2]
        assert newest == sorted(newest)
        assert len(set(newest)) > 3

    def shares(stage: Stage) -> list[tuple[str, int]]:
        traffic = stage.status("KnativeService", "chat")["traffic"]
        return [(target["revisionName"], target["percent"]) for target in traffic]

    play(scene)
