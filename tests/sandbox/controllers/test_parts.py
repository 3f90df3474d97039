"""The small parts of the controllers: conditions, quantities, volumes, traffic, comparison."""

from __future__ import annotations

import copy

import compare
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import DATA

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.controllers.conditions import READY, Conditions
from qwenkit.sandbox.controllers.names import child_name
from qwenkit.sandbox.controllers.request_counts import Traffic
from qwenkit.sandbox.controllers.routing.traffic_plan import plan_traffic
from qwenkit.sandbox.controllers.seed import OSS_DRIVER, node_name, seed
from qwenkit.sandbox.controllers.workloads.volume_match import mismatch, pick
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.store import ObjectStore

RECORDINGS = DATA / "cluster"
DEPENDENTS = ("A", "B")


def summary(status: Object) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c.get("reason", "")) for c in status["conditions"]}


# Conditions


def fresh() -> tuple[Object, Conditions]:
    status: Object = {}
    conditions = Conditions(DEPENDENTS, status)
    conditions.initialize()
    return status, conditions


def test_ready_is_true_once_every_dependent_is() -> None:
    status, conditions = fresh()
    conditions.mark_true("A")
    assert summary(status)[READY] == ("Unknown", "")
    conditions.mark_true("B")
    assert summary(status)[READY] == ("True", "")


def test_a_failure_speaks_for_ready_whatever_else_is_unknown() -> None:
    status, conditions = fresh()
    conditions.mark_false("A", "Broken", "it broke")
    conditions.mark_unknown("B", "Waiting", "it waits")
    assert summary(status) == {
        "A": ("False", "Broken"),
        "B": ("Unknown", "Waiting"),
        READY: ("False", "Broken"),
    }
    conditions.mark_true("A")
    assert summary(status)[READY] == ("Unknown", "Waiting")


def test_an_informational_condition_leaves_ready_alone() -> None:
    status, conditions = fresh()
    conditions.mark_true("A")
    conditions.mark_true("B")
    conditions.mark_false("Active", "NoTraffic", "")
    assert summary(status)[READY] == ("True", "")
    assert conditions.get("Active")["severity"] == "Info"


def test_a_condition_that_ends_as_it_began_keeps_its_time() -> None:
    old = "2020-01-01T00:00:00Z"
    status: Object = {
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": old}
            for kind in ("A", "B", READY)
        ]
    }
    conditions = Conditions(DEPENDENTS, status)
    conditions.mark_unknown("A", "Looking", "")
    conditions.mark_true("A")
    conditions.mark_false("B", "Broken", "")
    conditions.groom()
    times = {c["type"]: c["lastTransitionTime"] for c in status["conditions"]}
    assert times["A"] == old
    assert times["B"] != old


# Names


@given(st.text("abcdefghij-", min_size=1, max_size=80), st.sampled_from(["-00001", "-deployment"]))
def test_child_names_fit_and_keep_their_suffix(parent: str, suffix: str) -> None:
    name = child_name(parent, suffix)
    assert len(name) <= 63
    assert name.endswith(suffix)
    assert name != child_name(parent + "x", suffix)


# Volumes


def volume(name: str, size: str = "20Gi", **spec: object) -> Object:
    given = {"accessModes": ["ReadOnlyMany"], "storageClassName": "", **spec}
    return {
        "metadata": {"name": name, "labels": {"alicloud-pvname": name}},
        "spec": {"capacity": {"storage": size}, **given},
        "status": {"phase": "Available"},
    }


def claim(size: str = "20Gi", **spec: object) -> Object:
    given = {"accessModes": ["ReadOnlyMany"], "storageClassName": "", **spec}
    metadata = {"name": "c", "namespace": "default", "uid": "u"}
    return {"metadata": metadata, "spec": {"resources": {"requests": {"storage": size}}, **given}}


@pytest.mark.parametrize(
    ("offered", "asked", "why"),
    [
        (volume("v", "10Gi"), claim(), "requested PV is too small"),
        (volume("v", storageClassName="oss"), claim(), "storageClassName does not match"),
        (volume("v"), claim(accessModes=["ReadWriteOnce"]), "incompatible accessMode"),
        (volume("v", volumeMode="Block"), claim(), "incompatible volumeMode"),
        (volume("v"), claim(), ""),
    ],
)
def test_a_volume_that_does_not_fit_says_why(offered: Object, asked: Object, why: str) -> None:
    assert mismatch(offered, asked) == why


def test_the_smallest_fitting_volume_is_picked() -> None:
    volumes = [volume("large", "100Gi"), volume("small", "20Gi"), volume("tiny", "1Gi")]
    picked = pick(volumes, claim())
    assert picked is not None
    assert picked["metadata"]["name"] == "small"


def test_a_selector_and_a_reservation_decide() -> None:
    named = claim(selector={"matchLabels": {"alicloud-pvname": "b"}})
    picked = pick([volume("a"), volume("b")], named)
    assert picked is not None
    assert picked["metadata"]["name"] == "b"
    taken = volume("a", claimRef={"namespace": "default", "name": "other"})
    mine = volume("z", "99Gi", claimRef={"namespace": "default", "name": "c"})
    assert pick([taken], claim()) is None
    assert pick([taken, volume("b"), mine], claim()) == mine


# Traffic


class Hand(Clock):
    """A clock that is set by hand."""

    time = 0.0

    def now(self) -> float:
        return self.time


def test_concurrency_is_weighted_by_time_and_the_first_request_is_told_at_once() -> None:
    clock, told = Hand(), []
    traffic = Traffic(clock)
    traffic.on_first_request(lambda *key: told.append(key))
    assert traffic.sample("ns", "r", 0.0) is None
    traffic.enter("ns", "r")
    clock.time = 0.5
    traffic.enter("ns", "r")
    clock.time = 1.0
    # On average 1.5 were in flight and 2 came; one of each was reported when the first came.
    assert traffic.sample("ns", "r", 1.0) == (0.5, 1.0)
    assert told == [("ns", "r")]
    clock.time = 1.5
    traffic.leave("ns", "r")
    clock.time = 2.0
    assert traffic.sample("ns", "r", 2.0) == (1.5, 0.0)


def test_a_quiet_second_is_reported_once() -> None:
    clock = Hand()
    traffic = Traffic(clock)
    traffic.enter("ns", "r")
    clock.time = 1.0
    traffic.leave("ns", "r")
    traffic.sample("ns", "r", 1.0)
    assert traffic.sample("ns", "r", 2.0) == (0.0, 0.0)
    assert traffic.sample("ns", "r", 3.0) is None
    traffic.leave("ns", "r")  # an answer that nobody asked for counts nothing
    assert traffic.in_flight("ns", "r") == 0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 0.3)), max_size=60))
def test_the_samples_add_up_to_the_time_in_flight(steps: list[tuple[bool, float]]) -> None:
    clock = Hand()
    traffic = Traffic(clock)
    traffic.enter("ns", "warm")  # keeps the key, so that only the very first report is reduced
    clock.time = 1.0
    traffic.sample("ns", "warm", 1.0)
    busy, seen, due, in_flight = 0.0, 0.0, 2.0, 1
    for arrives, wait in steps:
        while clock.time + wait >= due:
            step = due - clock.time
            busy, wait, clock.time = busy + in_flight * step, wait - step, due
            sample = traffic.sample("ns", "warm", due)
            assert sample is not None
            seen, due = seen + sample[0], due + 1.0
        busy, clock.time = busy + in_flight * wait, clock.time + wait
        if arrives:
            traffic.enter("ns", "warm")
            in_flight += 1
        elif in_flight > 1:
            traffic.leave("ns", "warm")
            in_flight -= 1
    step = due - clock.time
    clock.time = due
    sample = traffic.sample("ns", "warm", due)
    assert sample is not None
    assert seen + sample[0] == pytest.approx(busy + in_flight * step)


# Traffic plans


def test_a_route_may_not_point_at_another_services_revision() -> None:
    store = ObjectStore(Kinds())
    seed(store, node_name="n", gpu="A10", gpus=1, gateway_port=1)
    labels = {"serving.knative.dev/service": "theirs"}
    store.create(
        "Revision",
        {
            "metadata": {"name": "theirs-00001", "namespace": "default", "labels": labels},
            "spec": {"containers": [{"image": "x"}]},
        },
    )
    route = {
        "metadata": {
            "name": "ours",
            "namespace": "default",
            "labels": {"serving.knative.dev/service": "ours"},
        },
        "spec": {"traffic": [{"revisionName": "theirs-00001", "percent": 100}]},
    }
    obstacle = plan_traffic(store, route).obstacle
    assert obstacle is not None
    assert obstacle.reason == "RevisionNotOwned"
    assert obstacle.failed


# The seed


def test_the_seed_can_be_sown_twice_and_moves_only_the_gateway() -> None:
    store = ObjectStore(Kinds())
    seed(store, node_name="n", gpu="V100-16", gpus=3, gateway_port=1)
    before = store.revision
    seed(store, node_name="n", gpu="V100-16", gpus=3, gateway_port=1)
    assert store.revision == before
    seed(store, node_name="n", gpu="V100-16", gpus=3, gateway_port=2)
    service = store.get("Service", "kourier-system", "kourier")
    assert service["spec"]["ports"][0]["port"] == 2
    assert service["status"]["loadBalancer"]["ingress"] == [{"ip": "127.0.0.1"}]
    node = store.get("Node", None, "n")
    assert node["metadata"]["labels"]["aliyun.accelerator/nvidia_name"] == "Tesla-V100-SXM2-16GB"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "3"
    info = node["status"]["nodeInfo"]
    assert {name for name, value in info.items() if not value} == {"kubeProxyVersion"}
    with pytest.raises(InvalidValue, match="'H9000'"):
        seed(store, node_name="m", gpu="H9000", gpus=1, gateway_port=1)


def test_a_seed_without_gpus_and_driver_replaces_those_of_the_sandbox_before() -> None:
    store = ObjectStore(Kinds())
    seed(store, node_name=node_name(3), gpu="V100-16", gpus=3, gateway_port=1)
    seed(store, node_name=node_name(0), gpu="V100-16", gpus=0, gateway_port=1, oss_driver=False)
    (node,) = store.list("Node")
    assert {"cpu": "4", "memory": "8Gi"}.items() <= node["status"]["allocatable"].items()
    assert "nvidia.com/gpu" not in node["status"]["capacity"]
    assert not [label for label in node["metadata"]["labels"] if "ali" in label or "ack" in label]
    assert store.list("CSIDriver") == []
    assert store.get("CSINode", None, node["metadata"]["name"])["spec"]["drivers"] == []
    seed(store, node_name=node_name(0), gpu="V100-16", gpus=0, gateway_port=1)
    assert OSS_DRIVER in [driver["metadata"]["name"] for driver in store.list("CSIDriver")]


# The comparison


@pytest.fixture(scope="module")
def recording() -> list[compare.Line]:
    return compare.read(RECORDINGS / "lifecycle-crash.jsonl.gz")


def judged(recording: list[compare.Line], changed: list[compare.Line]) -> list[str]:
    return compare.differences(compare.history(recording), compare.history(changed))


def test_a_recording_does_not_differ_from_itself(recording: list[compare.Line]) -> None:
    assert judged(recording, recording) == []


def test_every_kind_of_difference_is_found(recording: list[compare.Line]) -> None:
    last = max(
        index
        for index, (_, kind, obj) in enumerate(recording)
        if kind == "MODIFIED" and obj["kind"] == "Revision"
    )

    def with_change(path: list[str | int], value: object) -> str:
        changed = copy.deepcopy(recording)
        target = changed[last][2]
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value
        return "\n".join(judged(recording, changed))

    assert "Ready added" in with_change(["status", "conditions", 2, "reason"], "Other")
    assert ".Active.message" in with_change(["status", "conditions", 0, "message"], "x")
    assert "status.actualReplicas" in with_change(["status", "actualReplicas"], 7)
    assert "status.extra added" in with_change(["status", "extra"], 1)
    events = [line for line in recording if line[2].get("reason") != "LatestCreatedFailed"]
    assert "event missing: Warning | LatestCreatedFailed" in "\n".join(judged(recording, events))
    without = [line for line in recording if line[2].get("kind") != "Route"]
    assert "Route/qwen: Ready missing" in "\n".join(judged(recording, without))
    assert "not gone: Route" in judged(recording, without)


def test_a_wrong_order_of_deletion_is_found(recording: list[compare.Line]) -> None:
    gone = [line for line in recording if line[1] == "DELETED"]
    rest = [line for line in recording if line[1] != "DELETED"]
    reversed_times = zip((line[0] for line in gone), reversed(gone), strict=True)
    changed = rest + [(seconds, kind, obj) for seconds, (_, kind, obj) in reversed_times]
    assert "went before" in "\n".join(judged(recording, changed))
