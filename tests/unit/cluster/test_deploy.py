from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster_api import Api, Replay, serving, status, write_kubeconfig

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.deploy import apply_all, deploy, wait_bound
from qwenkit.cluster.rollout import wait_ready
from qwenkit.cluster.scale import change_scaling, replicas, wait_replicas
from qwenkit.errors import Conflict, InvalidValue, NotFound, NotReady, Rejected, WaitTimeout
from qwenkit.settings import Settings

Obj = dict[str, Any]
OURS = {"app.kubernetes.io/managed-by": "qwenkit", "qwenkit.dev/run": "default"}


def obj(kind: str, name: str, api_version: str = "v1", **more: Any) -> Obj:
    meta: Obj = {"name": name, "labels": dict(OURS)}
    if kind != "PersistentVolume":
        meta["namespace"] = "default"
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **more}


def docs() -> list[Obj]:
    """In the wrong order on purpose."""
    volumes = [{"name": "llm-model", "persistentVolumeClaim": {"claimName": "llm-model"}}]
    containers = [{"name": "vllm-container", "image": "vllm"}]
    template = {"spec": {"containers": containers, "volumes": volumes}}
    return [
        obj("Service", "qwen", "serving.knative.dev/v1", spec={"template": template}),
        obj("PersistentVolumeClaim", "llm-model", spec={"volumeName": "llm-model"}),
        obj("PersistentVolume", "llm-model", spec={}),
        obj("Secret", "llm-model-oss", stringData={"akId": "id", "akSecret": "very-secret"}),
    ]


def becomes_ready(api: Api, *, ready: str = "True") -> None:
    """Play the controllers: bind claims and make Services ready, as they are applied."""

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
                "conditions": [{"type": "Ready", "status": ready}],
            }

    api.applied = applied


@contextmanager
def connected(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with serving(api.app()) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "config", url)))
        with closing(Cluster.connect(Settings())) as cluster:
            yield cluster


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def target(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Cluster, Settings]]:
    with connected(api, tmp_path, monkeypatch) as cluster:
        yield cluster, Settings(gateway="http://47.1.2.3", timeout_s=5.0)


def test_deploy_applies_in_order_after_a_dry_run_of_all(
    api: Api, target: tuple[Cluster, Settings]
) -> None:
    becomes_ready(api)
    seen: list[str] = []
    cluster, settings = target
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
    api: Api, target: tuple[Cluster, Settings]
) -> None:
    def refuse(method: str, path: str, _body: Any) -> tuple[int, Obj] | None:
        if method == "PATCH" and "serving" in path:
            return status(400, "BadRequest", "denied the request: no")
        return None

    api.refuse = refuse
    with pytest.raises(Rejected) as caught:
        deploy(*target, docs())
    assert "very-secret" not in str(caught.value)
    assert api.objects == {}


def test_a_foreign_name_leaves_nothing(api: Api, target: tuple[Cluster, Settings]) -> None:
    foreign = obj("Service", "qwen", "serving.knative.dev/v1", spec={})
    foreign["metadata"] |= {"labels": {}, "annotations": {"serving.knative.dev/creator": "alice"}}
    api.add(foreign)
    with pytest.raises(Conflict, match="ksvc qwen") as caught:
        deploy(*target, docs())
    assert "alice" in caught.value.why
    assert list(api.objects.values()) == [foreign]


def test_deploy_wants_the_service(target: tuple[Cluster, Settings]) -> None:
    with pytest.raises(InvalidValue, match="docs"):
        deploy(*target, docs()[1:])


def test_a_second_deploy_changes_nothing(api: Api, target: tuple[Cluster, Settings]) -> None:
    becomes_ready(api)
    first = deploy(*target, docs())
    assert deploy(*target, docs()).revision == first.revision


def test_a_claim_on_a_released_volume_fails_at_once(
    api: Api, target: tuple[Cluster, Settings]
) -> None:
    cluster, settings = target
    apply_all(cluster, docs()[1:3])
    released = api.get("PersistentVolume", "llm-model")
    assert released is not None
    released["status"] = {"phase": "Released"}
    released["spec"]["claimRef"] = {"namespace": "default", "name": "llm-model"}
    with pytest.raises(NotReady, match="does not bind") as caught:
        wait_bound(cluster, settings.volume, timeout_s=5)
    assert any("Released" in line for line in caught.value.context["evidence"])
    assert "teardown" in caught.value.fix


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


def test_a_crash_is_known_long_before_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay("crash", at=1.7)
    with connected(api, tmp_path, monkeypatch) as cluster:
        with pytest.raises(NotReady):
            wait_ready(cluster, "qwen", generation=1, timeout_s=60, every_s=0.001)
        revision = api.get("Revision", "qwen-00001")
        ready = [c for c in revision["status"]["conditions"] if c["type"] == "Ready"]  # type: ignore[index]
        assert ready[0]["status"] == "Unknown"


def test_the_old_generation_s_ready_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay("happy", at=36.604)
    service = api.get("serving.knative.dev/v1/Service", "qwen")
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
        assert seen[0] == "waiting for Knative to take up the change"
        assert seen[-1] == "qwen-00002: Ready"
        assert any("Running, not ready" in state for state in seen)


def test_a_gpu_that_is_taken_runs_into_the_deadline_with_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay("no-gpu", at=60)
    api.listed = lambda _kind: None
    api.add(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "lab"},
            "status": {"allocatable": {"nvidia.com/gpu": "8"}},
        }
    )
    with connected(api, tmp_path, monkeypatch) as cluster:
        with pytest.raises(WaitTimeout) as caught:
            wait_ready(cluster, "qwen", generation=1, timeout_s=0.3, every_s=0.05)
        assert "no node has enough free GPUs" in caught.value.why
        assert "wait until a terminating pod" in caught.value.fix


def test_changing_the_scaling_makes_a_revision(api: Api, target: tuple[Cluster, Settings]) -> None:
    becomes_ready(api)
    cluster, settings = target
    deploy(cluster, settings, docs())
    changed = change_scaling(cluster, "qwen", {"target": "4"}, timeout_s=5)
    assert (changed.old_revision, changed.new_revision) == ("qwen-00001", "qwen-00002")
    service = api.get("serving.knative.dev/v1/Service", "qwen")
    assert service is not None
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"autoscaling.knative.dev/target": "4"}
    same = change_scaling(cluster, "qwen", {"autoscaling.knative.dev/target": "4"}, timeout_s=5)
    assert (same.old_revision, same.new_revision) == ("qwen-00002", "qwen-00002")
    with pytest.raises(InvalidValue, match="target"):
        change_scaling(cluster, "qwen", {"target": 4}, timeout_s=5)  # type: ignore[dict-item]


def test_replicas_are_counted_from_pods_and_autoscalers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Replay("zero-and-back", at=60)
    api.listed = lambda _kind: None
    with connected(api, tmp_path, monkeypatch) as cluster:
        now = replicas(cluster, "qwen")
        assert (now.desired, now.ready, now.starting, now.ending) == (1, 1, 0, 0)
        api.to(100)
        now = replicas(cluster, "qwen")
        assert (now.desired, now.ready, now.starting, now.ending) == (0, 0, 0, 1)
        assert wait_replicas(cluster, "qwen", at_most=0, timeout_s=1).value == now
        with pytest.raises(WaitTimeout, match="at least 1 ready") as caught:
            wait_replicas(cluster, "qwen", ready=1, timeout_s=0.2)
        assert "ending 1" in caught.value.why


def test_the_failure_of_the_revision_before_is_not_the_new_one_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deployed again with a better command: at first the status still names the one that failed."""
    api = Replay("crash", at=60)
    service = api.get("serving.knative.dev/v1/Service", "qwen")
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
        "waiting for Knative to take up the change",
        "qwen-00002: Ready",
    ]


def test_a_gateway_that_is_not_found_is_said_before_anything_changes(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    becomes_ready(api)
    with (
        connected(api, tmp_path, monkeypatch) as cluster,
        pytest.raises(NotFound, match="gateway") as caught,
    ):
        deploy(cluster, Settings(), docs())
    assert "--set gateway=" in caught.value.fix
    assert api.objects == {}


def test_what_is_being_deleted_is_not_applied_to(
    api: Api, target: tuple[Cluster, Settings]
) -> None:
    going = docs()[1]
    going["metadata"] |= {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["kubernetes.io/pvc-protection"],
    }
    api.add(going)
    with pytest.raises(Conflict, match="pvc llm-model is being deleted") as caught:
        deploy(*target, docs())
    assert "kubernetes.io/pvc-protection" in caught.value.why
    assert list(api.objects.values()) == [going]
