"""A cold start from a pod, its events and its server's log, whatever of them is left."""

from __future__ import annotations

from typing import Any

import pytest
from cluster_api import KSVC, Api, final, obj, status
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.cold_start import ColdStart, build
from qwenkit.cluster.kinds import REVISION_LABEL, SERVICE_LABEL
from qwenkit.cluster.rollout import wait_ready
from qwenkit.errors import WaitTimeout

Obj = dict[str, Any]

# What each version writes while it starts (vllm 0.4.1, 0.8.5 V0, 0.10 and 0.32 V1, on one GPU).
V0_4_1 = """
04 INFO 04-19 12:00:04 api_server.py:151] vLLM API server version 0.4.1
05 INFO 04-19 12:00:05 llm_engine.py:98] Initializing an LLM engine (v0.4.1) with config: model=x
44 INFO 04-19 12:00:44 model_runner.py:173] Loading model weights took 8.4910 GB
47 INFO 04-19 12:00:47 gpu_executor.py:119] # GPU blocks: 664, # CPU blocks: 512
48 INFO 04-19 12:00:48 model_runner.py:976] Capturing the model for CUDA graphs. This may lead
55 INFO 04-19 12:00:55 model_runner.py:1057] Graph capturing finished in 7 secs.
56 INFO:     Application startup complete.
56 INFO:     Uvicorn running on http://0.0.0.0:8080 (Press CTRL+C to quit)
"""
V0_8 = """
04 INFO 03-21 12:00:04 [api_server.py:1034] vLLM API server version 0.8.5
08 INFO 03-21 12:00:08 [llm_engine.py:240] Initializing a V0 LLM engine (v0.8.5) with config: x
09 INFO 03-21 12:00:09 [model_runner.py:1110] Starting to load model /m...
44 INFO 03-21 12:00:44 [model_runner.py:1115] Model loading took 8.4910 GiB and 34.8 seconds
47 INFO 03-21 12:00:47 [worker.py:267] Memory profiling takes 2.75 seconds
47 INFO 03-21 12:00:47 [executor_base.py:111] # cuda blocks: 7191, # CPU blocks: 512
54 INFO 03-21 12:00:54 [model_runner.py:1562] Graph capturing finished in 7 secs, took 0.20 GiB
55 INFO 03-21 12:00:55 [llm_engine.py:431] init engine (profile, create kv cache, warmup model) took
55 INFO 03-21 12:00:55 [api_server.py:1081] Starting vLLM API server on http://0.0.0.0:8080
56 INFO:     Application startup complete.
"""
V1_10 = """
05 (APIServer pid=1) INFO 11-24 12:00:05 [api_server.py:1896] vLLM API server version 0.10.2
08 (EngineCore_DP0 pid=41) INFO 11-24 12:00:08 [core.py:75] Initializing a V1 LLM engine (v0.10.2)
09 (EngineCore_DP0 pid=41) INFO 11-24 12:00:09 [gpu_model_runner.py:2338] Starting to load model /m
40 (EngineCore_DP0 pid=41) INFO 11-24 12:00:40 [default_loader.py:268] Loading weights took 24.8
44 (EngineCore_DP0 pid=41) INFO 11-24 12:00:44 [gpu_model_runner.py:2392] Model loading took 8.49
46 (EngineCore_DP0 pid=41) INFO 11-24 12:00:46 [monitor.py:34] torch.compile takes 19.69 s in total
47 (EngineCore_DP0 pid=41) INFO 11-24 12:00:47 [gpu_worker.py:298] Available KV cache memory: 33 GiB
47 (EngineCore_DP0 pid=41) INFO 11-24 12:00:47 [kv_cache_utils.py:864] GPU KV cache size: 1,587 t
54 (EngineCore_DP0 pid=41) INFO 11-24 12:00:54 [gpu_model_runner.py:3118] Graph capturing finished
55 (EngineCore_DP0 pid=41) INFO 11-24 12:00:55 [core.py:218] init engine (profile, create kv cache
56 (APIServer pid=1) INFO 11-24 12:00:56 [api_server.py:1971] Starting vLLM API server 0 on http://
56 (APIServer pid=1) INFO:     Application startup complete.
"""
V1_32 = """
08 (EngineCore pid=41) INFO 11-24 12:00:08 [core.py:134] Initializing a V1 LLM engine (v0.32.0) with
09 (EngineCore pid=41) INFO 11-24 12:00:09 [gpu_model_runner.py:5040] Starting to load model /m...
44 (EngineCore pid=41) INFO 11-24 12:00:44 [gpu_model_runner.py:5150] Model loading took 8.49 GiB
47 (EngineCore pid=41) INFO 11-24 12:00:47 [gpu_worker.py:760] Available KV cache memory: 33.31 GiB
55 (EngineCore pid=41) INFO 11-24 12:00:55 [core.py:403] init engine (profile, create kv cache, war
55 (EngineCore pid=41) INFO 11-24 12:00:55 [kv_cache_utils.py:2328] GPU KV cache size: 1,587 tokens
56 (APIServer pid=1) INFO 11-24 12:00:56 [entry.py:140] Starting vLLM server on http://0.0.0.0:8080
56 (APIServer pid=1) INFO:     Application startup complete.
"""
LOGS = {"0.4.1": V0_4_1, "0.8": V0_8, "0.10": V1_10, "0.32": V1_32}


def stamped(log: str, form: str = "2026-04-19T12:00:{}.000000000Z ") -> str:
    """Return a log as ``kubectl logs --timestamps`` shows it; the pod was created at 12:00:00."""
    return "\n".join(form.format(line[:2]) + line[3:] for line in log.strip().splitlines())


def at(second: int) -> str:
    return f"2026-04-19T12:{second // 60:02d}:{second % 60:02d}Z"


def started_pod(**status: Any) -> Obj:
    """Return a Knative pod that is Ready after 60 s; its sidecar's status comes first."""
    conditions = {"PodScheduled": 1, "PodReadyToStartContainers": 2, "Ready": 60}
    return {
        "kind": "Pod",
        "metadata": {"name": "p", "uid": "u", "creationTimestamp": at(0)},
        "spec": {
            "nodeName": "n",
            "containers": [
                {"name": "vllm", "ports": [{"containerPort": 8080}]},
                {"name": "agent"},
                {"name": "queue-proxy", "ports": [{"containerPort": 8012}]},
            ],
        },
        "status": {
            "conditions": [
                {"type": name, "status": "True", "lastTransitionTime": at(second)}
                for name, second in conditions.items()
            ],
            "containerStatuses": [
                {"name": "agent", "state": {"running": {"startedAt": at(9)}}},
                {"name": "vllm", "state": {"running": {"startedAt": at(4)}}},
            ],
            **status,
        },
    }


def event(reason: str, second: int, container: str = "vllm", message: str = "") -> Obj:
    path = {"uid": "u", "fieldPath": f"spec.containers{{{container}}}"}
    return {"reason": reason, "firstTimestamp": at(second), "message": message} | {
        "involvedObject": path
    }


EVENTS = [
    event("Pulling", 2),
    event("Pulled", 3, message="pulled in 1.2s (1.3s)"),
    event("Pulled", 8, "agent"),
    event("Started", 4),
]


def seconds(found: ColdStart) -> dict[str, float]:
    return {step.name: round(step.seconds, 3) for step in found.steps}


def test_every_version_of_vllm_has_its_phases() -> None:
    cluster = {"scheduled": 1, "mount": 1, "image": 1, "container": 1}
    server = {
        "0.4.1": {"engine start": 1, "weights read": 39, "KV profiling": 3, "graph capture": 8},
        "0.8": {"engine start": 5, "weights read": 35, "KV profiling": 3, "graph capture": 7},
        "0.10": {"engine start": 5, "weights read": 35, "compile": 2, "KV profiling": 1},
        "0.32": {"engine start": 5, "weights read": 35, "KV profiling": 3, "warm-up": 8},
    }
    server["0.8"] |= {"warm-up": 1}
    server["0.10"] |= {"graph capture": 7, "warm-up": 1}
    for version, log in LOGS.items():
        found = build(started_pod(), EVENTS, stamped(log), first_token_s=0.5, clock=10)
        ends = {"server up": 1, "probe": 4, "first token": 0.5}
        assert seconds(found) == cluster | server[version] | ends, version
        assert (found.attributed_percent, found.total_s, found.ready_s) == (100, 60.5, 60)
        assert found.ready_on_gpu_s == 591  # the scheduler is no faster
    notes = {step.name: step.note for step in found.steps}
    assert (notes["scheduled"], notes["image"], notes["container"]) == ("on n", "pull 1.2s", "vllm")
    text = str(found).splitlines()
    assert len(text) == len(found.steps) + 2
    assert "35.0 s   350.0 s on the GPU  58 %" in text[5]
    assert "clock × 10" in text[-1]
    slow = str(build(started_pod(), EVENTS, stamped(log)))
    assert "35.0 s  58 %" in slow
    assert "clock" not in slow


@pytest.mark.parametrize(
    "log",
    [
        stamped(V0_4_1, "2026-04-19T20:00:{}.123456789+08:00 "),  # of a node in another zone
        stamped(V0_4_1, ""),  # no time stamps but vLLM's own
        stamped(V0_4_1.replace(" 12:00:", " 20:00:"), ""),  # with the container's zone
        stamped(V0_4_1.replace("04-19 12:00:", "04-18 23:00:"), ""),
        stamped(V0_4_1) + "\n2026-04-19T12:05:00Z prompt: 'Graph capturing finished in 7 secs.'",
        "2026-99-99T99:99:99Z odd\n13-45 99:99:99 odd\n" + stamped(V0_4_1),
    ],
)
def test_the_times_are_read_however_they_are_stamped(log: str) -> None:
    found = build(started_pod(), EVENTS, log)
    assert [step.name for step in found.steps][4:] == [
        "engine start",
        "weights read",
        "KV profiling",
        "graph capture",
        "server up",
        "probe",
    ]
    assert found.steps[5].seconds == pytest.approx(39, abs=0.2)


@pytest.mark.parametrize(
    ("log", "note"),
    [
        (None, "its log cannot be read"),
        ("", "its log says nothing known"),
        ("2026-04-19T12:00:05Z listening on 8080", "its log says nothing known"),
        (stamped(V0_4_1).replace("12:00", "13:00"), "its log says nothing known"),  # rotated
    ],
)
def test_a_server_that_says_nothing_known_is_starting(log: str | None, note: str) -> None:
    last = build(started_pod(), EVENTS, log).steps[-1]
    assert (last.name, last.seconds, last.note, last.group) == (
        "server starting",
        56,
        note,
        "server",
    )


def test_what_cannot_be_told_apart_is_one_step() -> None:
    pod = started_pod()
    old = started_pod(conditions=pod["status"]["conditions"][::2])  # Kubernetes before 1.29
    quiet = "\n".join(line for line in stamped(V0_8).splitlines() if "INFO:" in line)
    assert seconds(build(pod, [], quiet)) == {  # the events are gone, vLLM logs warnings alone
        "scheduled": 1,
        "mount": 1,
        "image and container": 2,
        "engine start to server up": 52,
        "probe": 4,
    }
    assert seconds(build(old, EVENTS, None)) == {
        "scheduled": 1,
        "mount": 1,
        "image": 1,
        "container": 1,
        "server starting": 56,
    }
    assert list(seconds(build(old, [], None)))[1] == "mount to container"


def test_restarts_are_told_and_what_nobody_knows_is_not_attributed() -> None:
    last = {"terminated": {"reason": "OOMKilled", "startedAt": at(4)}}
    status = {"name": "vllm", "state": {"running": {"startedAt": at(30)}}, "lastState": last}
    log = stamped(V0_4_1.replace("04 INFO", "31 INFO").replace("05 INFO", "32 INFO"))
    for count, events in ((1, []), (3, EVENTS)):
        pod = started_pod(containerStatuses=[{**status, "restartCount": count}])
        found = build(pod, events, log)
        assert (seconds(found)["restarts"], found.attributed_percent) == (26, 100)
        assert f"{count} × OOMKilled" in str(found)
    unknown = build(pod, [], log)
    assert (unknown.steps[2].name, unknown.attributed_percent) == ("not attributed", 53.3)
    crashed = {**status, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3}
    ended = build(started_pod(conditions=[], containerStatuses=[crashed]), EVENTS, log)
    assert list(seconds(ended)) == ["scheduled and mount", "image", "container"]
    assert ended.percent(ended.steps[-1]) == 25


def test_init_containers_are_a_step_and_an_empty_pod_has_none() -> None:
    before = [{"state": {"terminated": {"startedAt": at(2), "finishedAt": at(3)}}}]
    before += [{"state": {"running": {"startedAt": at(3)}}}]  # a sidecar
    found = build(started_pod(initContainerStatuses=before), EVENTS, None)
    assert seconds(found)["init containers"] == 1
    bare = build({"metadata": {"name": "p", "creationTimestamp": at(0)}}, [])
    assert (bare.steps, bare.total_s, bare.attributed_percent) == ((), 0, 100)


@given(
    lost=st.sets(st.integers(0, 40)),
    conditions=st.permutations(["PodScheduled", "PodReadyToStartContainers", "Ready"]),
    kept=st.integers(0, 3),
    events=st.sets(st.integers(0, 3)),
    shift=st.integers(-90, 90),
    version=st.sampled_from(sorted(LOGS)),
)
def test_whatever_is_missing_the_steps_add_up(
    lost: set[int],
    conditions: list[str],
    kept: int,
    events: set[int],
    shift: int,
    version: str,
) -> None:
    """Clocks of other machines may be off: no step is negative, none is lost."""
    pod = started_pod()
    status = pod["status"]
    status["conditions"] = [c for c in status["conditions"] if c["type"] in conditions[:kept]]
    status["containerStatuses"][1]["state"]["running"]["startedAt"] = at(max(0, 4 + shift))
    lines = [line for i, line in enumerate(stamped(LOGS[version]).splitlines()) if i not in lost]
    found = build(pod, [EVENTS[i] for i in events], "\n".join(lines))
    assert all(step.seconds >= 0 for step in found.steps)
    assert sum(step.seconds for step in found.steps) == pytest.approx(found.total_s)
    assert 0 <= found.attributed_percent <= 100
    if kept == 3:
        assert found.total_s >= 60
        assert found.steps[-1].name.endswith(("probe", "server starting", "not attributed"))
    assert len({step.name for step in found.steps} - {"not attributed"}) >= len(found.steps) - 2


@pytest.mark.parametrize(
    ("log", "doing"),
    [
        (stamped(V0_4_1, "").split("INFO 04-19 12:00:44")[0], "; vLLM: reading weights"),
        (stamped(V0_4_1, ""), "; vLLM: listening"),
        ("INFO api_server.py:151] vLLM API server version 0.4.1", "; vLLM: starting"),
        ("hello", ""),
        ("", ""),
    ],
)
def test_a_wait_tells_what_the_server_does_and_does_not_need_its_log(
    api: Api, cluster: Cluster, log: str, doing: str
) -> None:
    pod = started_pod(conditions=[])
    labels = {SERVICE_LABEL: "qwen", REVISION_LABEL: "qwen-00001"}
    pod["metadata"] |= {"namespace": "default", "labels": labels}
    api.add({"apiVersion": "v1", **pod})
    state = {"observedGeneration": 1, "latestCreatedRevisionName": "qwen-00001", "conditions": []}
    api.add(obj(KSVC, "qwen", spec={"template": {"spec": {}}}, status=state))
    api.logs = log
    refused = status(403, "Forbidden", "no logs")
    api.refuse = lambda _m, path, _b: refused if path.endswith("/log") and not log else None
    seen: list[str] = []
    with pytest.raises(WaitTimeout):
        wait_ready(
            cluster,
            "qwen",
            generation=1,
            timeout_s=0.01,
            every_s=0.01,
            on_change=lambda change: seen.append(change.state),
        )
    assert seen[0] == f"qwen-00001: starting; pods: Pending{doing}"


def test_a_recorded_pod_of_a_real_cluster_is_attributed() -> None:
    objects = final("happy", before=30)
    pod = next(o for o in objects if o["kind"] == "Pod")
    found = build(pod, [o for o in objects if o["kind"] == "Event"])
    assert [step.name for step in found.steps] == [
        "scheduled",
        "mount",
        "image",
        "container",
        "server starting",
    ]
    assert found.total_s == pytest.approx(11, abs=1.01)
    assert found.attributed_percent == 100
    notes = {step.name: step.note for step in found.steps}
    assert (notes["scheduled"], notes["image"]) == ("on lab", "image already present")
    never = final("no-gpu")
    pod = next(o for o in never if o["kind"] == "Pod")
    assert build(pod, [o for o in never if o["kind"] == "Event"]).steps == ()


def test_the_pull_of_another_container_does_not_count() -> None:
    objects = final("happy", before=30)
    pod = next(o for o in objects if o["kind"] == "Pod")
    events = [o for o in objects if o["kind"] == "Event"]
    own = [e for e in events if "vllm-container" not in e["involvedObject"].get("fieldPath", "")]
    assert "image" not in [step.name for step in build(pod, own).steps]
    # Some runtimes report another name for the image than the one in the spec.
    for each in pod["status"]["containerStatuses"]:
        each["image"] = "sha256:0123"
    assert "image" in [step.name for step in build(pod, events).steps]
