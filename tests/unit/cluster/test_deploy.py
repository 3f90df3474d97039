from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, Replay, connected, obj, status

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.deploy import apply_all, deploy, wait_bound
from qwenkit.cluster.rollout import wait_ready
from qwenkit.cluster.wait import Transition
from qwenkit.errors import Conflict, InvalidValue, NotFound, NotReady, Rejected, WaitTimeout
from qwenkit.manifests.render import render
from qwenkit.settings import Settings

Obj = dict[str, Any]
PV, PVC = "v1/PersistentVolume", "v1/PersistentVolumeClaim"


@pytest.fixture
def settings() -> Settings:
    return Settings(gateway="http://47.1.2.3", timeout_s=5.0)


def docs() -> list[Obj]:
    """Return the course's documents, not in the order in which they are applied."""
    volumes = [{"name": "llm-model", "persistentVolumeClaim": {"claimName": "llm-model"}}]
    containers = [{"name": "vllm-container", "image": "vllm"}]
    template = {"spec": {"containers": containers, "volumes": volumes}}
    return [
        obj(KSVC, "qwen", labels=OURS, spec={"template": template}),
        obj(PVC, "llm-model", labels=OURS, spec={"volumeName": "llm-model"}),
        obj(PV, "llm-model", labels=OURS, spec={}),
        obj("v1/Secret", "llm-model-oss", labels=OURS, stringData={"akSecret": "very-secret"}),
    ]


def becomes_ready(api: Api) -> None:
    """Act as the controllers: bind PVCs and make Services ready when they are applied."""

    def applied(changed: Obj) -> None:
        if changed["kind"] == "PersistentVolumeClaim":
            changed["status"] = {"phase": "Bound"}
        if changed["kind"] == "Service":
            generation = changed["metadata"]["generation"]
            changed["status"] = {
                "observedGeneration": generation,
                "url": "http://qwen.default.example.com",
                "latestCreatedRevisionName": f"qwen-0000{generation}",
                "latestReadyRevisionName": f"qwen-0000{generation}",
                "conditions": [{"type": "Ready", "status": "True"}],
            }

    api.applied = applied


def test_deploy_applies_in_order_after_a_dry_run_of_all(
    api: Api, cluster: Cluster, settings: Settings
) -> None:
    becomes_ready(api)
    seen: list[str] = []
    done = deploy(cluster, settings, docs(), on_change=lambda t: seen.append(t.state))
    assert (done.service, done.namespace, done.revision) == ("qwen", "default", "qwen-00001")
    assert (done.host, done.gateway) == ("qwen.default.example.com", "http://47.1.2.3")
    assert done.url == "http://qwen.default.example.com"
    assert done.ready_seconds > 0
    patches = [
        (path.split("/")[-2], "dryRun" in q) for m, path, q, _ in api.requests if m == "PATCH"
    ]
    plurals = ["secrets", "persistentvolumes", "persistentvolumeclaims", "services"]
    assert patches == [(p, True) for p in plurals] + [(p, False) for p in plurals]
    assert seen == ["pvc llm-model: Bound", "qwen-00001: Ready"]


def test_a_refusal_in_the_dry_run_leaves_nothing(
    api: Api, cluster: Cluster, settings: Settings
) -> None:
    def refuse(method: str, path: str, _body: Any) -> tuple[int, Obj] | None:
        if method == "PATCH" and "serving" in path:
            return status(400, "BadRequest", "denied the request: no")
        return None

    api.refuse = refuse
    with pytest.raises(Rejected) as caught:
        deploy(cluster, settings, docs())
    assert "very-secret" not in str(caught.value)
    assert api.objects == {}


def test_a_foreign_name_leaves_nothing(api: Api, cluster: Cluster, settings: Settings) -> None:
    foreign = api.add(obj(KSVC, "qwen", spec={}))
    foreign["metadata"]["annotations"] = {"serving.knative.dev/creator": "alice"}
    with pytest.raises(Conflict, match="ksvc qwen") as caught:
        deploy(cluster, settings, docs())
    assert "alice" in caught.value.why
    assert list(api.objects.values()) == [foreign]


def test_the_documents_must_hold_the_service(cluster: Cluster, settings: Settings) -> None:
    with pytest.raises(InvalidValue, match="docs"):
        deploy(cluster, settings, docs()[1:])


def test_a_second_deploy_changes_nothing(api: Api, cluster: Cluster, settings: Settings) -> None:
    becomes_ready(api)
    first = deploy(cluster, settings, docs())
    assert deploy(cluster, settings, docs()).revision == first.revision


def test_a_claim_on_a_released_volume_fails_at_once(api: Api, cluster: Cluster) -> None:
    apply_all(cluster, docs()[1:3])
    released = api.get("PersistentVolume", "llm-model")
    assert released is not None
    released["status"] = {"phase": "Released"}
    released["spec"]["claimRef"] = {"namespace": "default", "name": "llm-model"}
    with pytest.raises(NotReady, match="does not bind") as caught:
        wait_bound(cluster, "llm-model", timeout_s=5)
    assert any("Released" in line for line in caught.value.context["evidence"])
    assert "teardown" in caught.value.fix


THEIRS = {"claimRef": {"namespace": "alice", "name": "llm-model"}}


@pytest.mark.parametrize("labels", [OURS, OURS | {"qwenkit.dev/run": "alice"}, {}])
def test_a_volume_of_another_namespace_is_not_taken_and_the_advice_works(
    api: Api, cluster: Cluster, settings: Settings, labels: dict[str, str]
) -> None:
    becomes_ready(api)
    theirs = api.add(obj(PV, "llm-model", labels=labels, spec=THEIRS))
    before = str(theirs)
    with pytest.raises(Conflict, match="pv llm-model exists and is not ours") as caught:
        deploy(cluster, settings, docs())
    assert "alice/llm-model" in caught.value.why
    assert str(theirs) == before
    assert {key[0] for key in api.objects} == {PV}
    advice = caught.value.fix.rpartition("--set volume=")[2]
    assert advice == "llm-model-default"
    mine = Settings(volume=advice, gateway=settings.gateway, timeout_s=5.0)
    deploy(cluster, mine, render(mine))
    assert str(theirs) == before


def test_a_claim_whose_volume_is_bound_elsewhere_fails_at_once(api: Api, cluster: Cluster) -> None:
    apply_all(cluster, docs()[1:3])
    elsewhere = api.get("PersistentVolume", "llm-model")
    assert elsewhere is not None
    elsewhere |= {"spec": THEIRS, "status": {"phase": "Bound"}}
    with pytest.raises(NotReady, match="does not bind") as caught:
        wait_bound(cluster, "llm-model", timeout_s=5)
    assert "its PV llm-model is for alice/llm-model" in caught.value.why
    assert caught.value.fix == "choose another volume: --set volume=llm-model-default"


@pytest.mark.parametrize(
    ("name", "cause"),
    [("crash", "boom"), ("image-pull", "registry.invalid"), ("no-pvc", '"missing" not found')],
)
def test_recorded_failures_end_the_wait_early(
    name: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay(name, at=1.7)
    with connected(api, tmp_path, monkeypatch) as cluster:
        with pytest.raises(NotReady, match="does not become ready") as caught:
            wait_ready(cluster, "qwen", generation=1, timeout_s=60, every_s=0.001)
        assert cause in str(caught.value)
        assert caught.value.fix
        assert caught.value.context["transitions"]


def test_a_crash_is_reported_long_before_the_progress_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay("crash", at=1.7)
    with connected(api, tmp_path, monkeypatch) as cluster:
        with pytest.raises(NotReady):
            wait_ready(cluster, "qwen", generation=1, timeout_s=60, every_s=0.001)
        revision = api.get("Revision", "qwen-00001")
        ready = [c for c in revision["status"]["conditions"] if c["type"] == "Ready"]  # type: ignore[index]
        assert ready[0]["status"] == "Unknown"


def test_ready_for_the_previous_generation_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay("happy", at=36.604)
    service = api.get(KSVC, "qwen")
    assert service is not None
    # The trap: patched to generation 2, and still Ready for generation 1.
    assert service["metadata"]["generation"] == 2
    assert service["status"]["observedGeneration"] == 1
    with connected(api, tmp_path, monkeypatch) as cluster:
        seen: list[str] = []
        done = wait_ready(
            cluster,
            "qwen",
            generation=2,
            timeout_s=60,
            every_s=0.001,
            on_change=lambda t: seen.append(t.state),
        )
        assert done.value["status"]["latestReadyRevisionName"] == "qwen-00002"
        assert seen[0] == "waiting for Knative to reconcile the change"
        assert seen[-1] == "qwen-00002: Ready"
        assert any("Running, not ready" in state for state in seen)


def test_a_timeout_names_the_gpu_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay("no-gpu", at=60)
    api.listed = lambda _kind: None
    api.add(obj("v1/Node", "lab", status={"allocatable": {"nvidia.com/gpu": "8"}}))
    with connected(api, tmp_path, monkeypatch) as cluster:
        with pytest.raises(WaitTimeout) as caught:
            wait_ready(cluster, "qwen", generation=1, timeout_s=0.3, every_s=0.05)
        assert "no node has enough free GPUs" in caught.value.why
        assert "wait until a terminating pod" in caught.value.fix


def test_what_keeps_it_is_a_transition_while_waiting_can_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay("no-gpu", at=60)
    api.listed = lambda _kind: None
    api.add(obj("v1/Node", "lab", status={"allocatable": {"nvidia.com/gpu": "8"}}))
    seen: list[str] = []
    with connected(api, tmp_path, monkeypatch) as cluster, pytest.raises(WaitTimeout):
        wait_ready(
            cluster,
            "qwen",
            generation=1,
            timeout_s=0.5,
            every_s=0.05,
            on_change=lambda t: seen.append(t.state),
        )
    assert seen[-1].endswith("no node has enough free GPUs (1 of 1 nodes: too few free GPUs)")


def test_ctrl_c_says_what_goes_on_and_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay("never-ready", at=20)
    api.listed = lambda _kind: None

    def press(_transition: Transition) -> None:
        raise KeyboardInterrupt

    with (
        connected(api, tmp_path, monkeypatch) as cluster,
        pytest.raises(KeyboardInterrupt) as stopped,
    ):
        wait_ready(cluster, "qwen", generation=1, timeout_s=5, on_change=press)
    (note,) = stopped.value.__notes__
    assert "qwen-00001 goes on starting" in note
    assert "qwenkit teardown stops it" in note


def test_the_failure_of_the_previous_revision_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deployed again with a better command: at first the status still names the one that failed."""
    api = Replay("crash", at=60)
    service = api.get(KSVC, "qwen")
    assert service is not None
    failed = dict(service["status"])
    service["metadata"]["generation"] = 2
    ready = {"observedGeneration": 2, "latestCreatedRevisionName": "qwen-00002"} | {
        "conditions": [{"type": "Ready", "status": "True"}]
    }
    stale = {"type": "ConfigurationsReady", "status": "Unknown", "reason": "OutOfDate"}
    unknown = [stale, {"type": "Ready", "status": "Unknown", "reason": "OutOfDate"}]
    states = iter([failed, failed | {"observedGeneration": 2, "conditions": unknown}, ready])

    def listed(kind: str) -> None:
        if kind.endswith("/Pod"):
            service["status"] = next(states, ready)

    api.listed = listed
    listed("v1/Pod")
    with connected(api, tmp_path, monkeypatch) as cluster:
        done = wait_ready(cluster, "qwen", generation=2, timeout_s=60, every_s=0.001)
    assert [t.state for t in done.transitions] == [
        "waiting for Knative to reconcile the change",
        "qwen-00002: Ready",
    ]


def test_an_unknown_gateway_is_reported_before_anything_changes(api: Api, cluster: Cluster) -> None:
    with pytest.raises(NotFound, match="gateway") as caught:
        deploy(cluster, Settings(), docs())
    assert "--set gateway=" in caught.value.fix
    assert api.objects == {}


def test_a_terminating_object_is_not_applied_to(
    api: Api, cluster: Cluster, settings: Settings
) -> None:
    claim = api.add(docs()[1])
    claim["metadata"] |= {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["kubernetes.io/pvc-protection"],
    }
    with pytest.raises(Conflict, match="pvc llm-model is being deleted") as caught:
        deploy(cluster, settings, docs())
    assert "kubernetes.io/pvc-protection" in caught.value.why
    assert list(api.objects.values()) == [claim]
