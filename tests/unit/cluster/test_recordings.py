"""The rules explain recordings of a real cluster."""

from __future__ import annotations

from typing import Any

import pytest
from cluster_api import final

from qwenkit.cluster.diagnosis.explain import diagnose
from qwenkit.cluster.diagnosis.snapshot import LogName, Snapshot, event_count, event_time
from qwenkit.cluster.kinds import is_terminating, name_of

Obj = dict[str, Any]


def snapshot(objects: list[Obj], *more: Obj, log: str = "") -> Snapshot:
    names = [(name_of(o), c["name"]) for o in objects if o["kind"] == "Pod" for c in _own(o)]
    return Snapshot("qwen", (*objects, *more), {LogName(*name): log for name in names if log})


def _own(pod: Obj) -> list[Obj]:
    return [c for c in pod["spec"]["containers"] if c["name"] != "queue-proxy"]


def node(gpus: int) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "lab"},
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}},
    }


@pytest.mark.parametrize(
    ("name", "code", "cause", "evidence", "fix"),
    [
        (
            "image-pull",
            "image",
            "registry.invalid/kube-ai/vllm:9.9",
            "server misbehaving",
            "registry",
        ),
        (
            "no-gpu",
            "no-gpu",
            "GPUs",
            "a replica needs 8 GPUs, the largest node has 3",
            "gpu_count=3",
        ),
        ("no-pvc", "pvc-missing", "missing", 'persistentvolumeclaim "missing" not found', "deploy"),
        ("crash", "unknown", "exits with code 1", "boom", "kubectl logs"),
        ("never-ready", "never-ready", "readiness probe", "statuscode: 503", "progress_deadline"),
    ],
)
def test_each_failure_has_its_one_cause(
    name: str, code: str, cause: str, evidence: str, fix: str
) -> None:
    found = diagnose(snapshot(final(name), node(3)))
    assert found.kind == code
    assert found.permanent
    assert cause in found.cause
    assert any(evidence in line for line in found.evidence), found.evidence
    assert fix in found.fix
    assert str(found).startswith(found.cause)


def test_a_gpu_in_use_is_worth_waiting_for() -> None:
    found = diagnose(snapshot(final("no-gpu"), node(8)))
    assert (found.kind, found.permanent) == ("no-gpu", False)


def test_a_volume_on_another_node_is_no_lack_of_gpus() -> None:
    objects = final("no-gpu")
    pod = next(o for o in objects if o["kind"] == "Pod")
    (placed,) = (c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
    placed["message"] = placed["message"].replace(
        "available: ", "available: 1 node(s) had volume node affinity conflict, "
    )
    found = diagnose(snapshot(objects, node(8)))
    assert (found.kind, found.permanent) == ("volume-elsewhere", False)
    assert "node_selector" in found.fix


@pytest.mark.parametrize("recovered", [False, True])
def test_a_stale_unschedulable_is_no_failure(recovered: bool) -> None:
    objects = final("no-gpu")
    pod = next(o for o in objects if o["kind"] == "Pod")
    # The GPU was freed and the pod placed; the Revision, or only the Service, does not say so yet.
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
    if recovered:
        revision = next(o for o in objects if o["kind"] == "Revision")
        (ready,) = (c for c in revision["status"]["conditions"] if c["type"] == "Ready")
        ready |= {"status": "Unknown", "reason": "Deploying"}
    found = diagnose(snapshot(objects, node(8)))
    assert (found.kind, found.permanent) == ("starting", False)


def test_a_first_crash_is_not_the_end() -> None:
    early = snapshot(final("crash", before=2.6))
    found = diagnose(early)
    assert (found.kind, found.permanent) == ("unknown", False)
    assert "restarted 0 times" in found.evidence


@pytest.mark.parametrize(
    ("second", "code"),
    [(0.5, "absent"), (5, "starting"), (14, "ready"), (36.605, "starting"), (55, "ready")],
)
def test_a_good_start_goes_from_absent_to_ready(second: float, code: str) -> None:
    found = diagnose(snapshot(final("happy", before=second)))
    assert found.kind == code
    assert not found.permanent or code == "absent"


def test_scaled_to_zero_is_ready() -> None:
    found = diagnose(snapshot(final("zero-and-back", before=130)))
    assert found.kind == "ready"
    assert "scaled to zero" in found.evidence[0]


def test_pods_of_a_deleted_service_do_not_count() -> None:
    objects = final("never-ready", before=10)
    pods = [o for o in objects if o["kind"] == "Pod"]
    assert len({p["metadata"]["labels"]["serving.knative.dev/revision"] for p in pods}) == 1
    kept = snapshot(objects).pods
    assert [is_terminating(pod) for pod in pods].count(True) == len(pods) - len(kept)
    assert len(kept) == 1


def test_an_absent_service_with_the_flag_off_names_the_flag() -> None:
    features = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-features"},
        "data": {"kubernetes.podspec-persistent-volume-claim": "disabled"},
    }
    off = Snapshot("qwen", (features,))
    found = diagnose(off)
    assert found.kind == "pvc-flag"
    assert "kubectl patch configmap config-features" in found.fix


@pytest.mark.parametrize(
    ("text", "cause", "fix"),
    [
        (
            "RuntimeError: CUDA error: no kernel image is available for execution on the device",
            "no kernels for this GPU",
            "0.8.5",
        ),
        (
            "ValueError: The checkpoint you are trying to load has model type `qwen3` but "
            "Transformers does not recognize this architecture.",
            "too old for this model",
            "leave image out",
        ),
        ("vllm serve: error: unrecognized arguments: --x", "does not take one of", "extra_args"),
    ],
)
def test_known_log_lines_are_explained(text: str, cause: str, fix: str) -> None:
    found = diagnose(snapshot(final("crash"), log=text))
    assert cause in found.cause
    assert text in found.evidence
    assert fix in found.fix


def test_a_failed_mount_is_explained_by_its_event() -> None:
    objects = final("crash", before=1.9)
    pod = next(o for o in objects if o["kind"] == "Pod")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "default"},
        "reason": "FailedMount",
        "count": 1,
        "message": 'MountVolume.SetUp failed for volume "llm-model": AccessDenied 403',
        "involvedObject": {"kind": "Pod", "uid": pod["metadata"]["uid"]},
    }
    found = diagnose(snapshot([*objects, event]))
    assert (found.kind, found.permanent) == ("mount-denied", True)
    slow = event | {"message": "timed out waiting for the condition"}
    found = diagnose(snapshot([*objects, slow]))
    assert (found.kind, found.permanent) == ("mount", False)


def test_a_pod_that_is_scaled_down_has_not_crashed() -> None:
    objects = final("zero-and-back", before=124.5)
    pod = next(o for o in objects if o["kind"] == "Pod")
    codes = [s["state"]["terminated"]["exitCode"] for s in pod["status"]["containerStatuses"]]
    assert (is_terminating(pod), pod["status"]["phase"], any(codes)) == (True, "Failed", True)
    assert diagnose(snapshot(objects)).kind == "ready"


def test_an_event_of_a_series_is_as_new_and_as_frequent_as_its_series() -> None:
    event = {
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "firstTimestamp": None,
        "lastTimestamp": None,
        "series": {"count": 7, "lastObservedTime": "2026-01-01T00:09:00.000000Z"},
        "metadata": {},
    }
    assert (event_count(event), event_time(event)) == (7, "2026-01-01T00:09:00.000000Z")
    assert event_count(event | {"series": None}) == 1
    assert event_count({"count": 3}) == 3
