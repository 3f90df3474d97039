from __future__ import annotations

from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, obj, status

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.occupants import Occupant, evict, occupants
from qwenkit.cluster.removal import PATIENT, TeardownStep
from qwenkit.errors import WaitTimeout

LAB = OURS | {"qwenkit.dev/run": "lab"}
READY: dict[str, Any] = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
PV, PVC = "v1/PersistentVolume", "v1/PersistentVolumeClaim"
MOUNTED = {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "llm-model"}}]}


def everything(labels: dict[str, str], **service: Any) -> list[dict[str, Any]]:
    kinds = [("v1/Secret", "llm-model-oss"), (PV, "llm-model"), (PVC, "llm-model")]
    found = [obj(kind, name, labels=labels, spec={}) for kind, name in kinds]
    return [*found, obj(KSVC, "qwen", labels=labels, **service)]


def found(cluster: Cluster) -> list[str]:
    return list(map(str, occupants(cluster, "qwen", "llm-model", "llm-model-oss")))


def test_what_another_run_made_is_named_with_its_run(cluster: Cluster, api: Api) -> None:
    for one in everything(LAB, **READY):
        api.add(one)
    assert found(cluster) == [
        "ksvc qwen of run 'lab', Ready",
        "pvc llm-model of run 'lab'",
        "pv llm-model of run 'lab'",
        "secret llm-model-oss of run 'lab'",
    ]


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/managed-by": "Helm"}])
def test_objects_without_our_label_are_nobodys_to_ask_about(
    cluster: Cluster, api: Api, labels: dict[str, str]
) -> None:
    for one in everything(labels, **READY):
        api.add(one)
    assert found(cluster) == []


def test_names_elsewhere_are_free(cluster: Cluster, api: Api) -> None:
    api.add(obj(KSVC, "qwen", namespace="team-b", labels=LAB, **READY))
    claim = {"namespace": "team-b", "name": "llm-model"}
    api.add(obj(PV, "llm-model", labels=LAB, spec={"claimRef": claim}))
    api.add(obj(KSVC, "other", labels=LAB, **READY))
    assert found(cluster) == []


def test_services_that_would_go_too_are_named(cluster: Cluster, api: Api) -> None:
    api.add(obj(KSVC, "mine", labels=OURS, **READY))
    api.add(obj(KSVC, "mine-and-dead", labels=OURS))
    api.add(obj(KSVC, "guest", labels=LAB, spec={"template": {"spec": MOUNTED}}))
    assert found(cluster) == ["ksvc mine of run 'default', Ready", "ksvc guest of run 'lab'"]


def test_what_may_not_be_read_is_left_out(cluster: Cluster, api: Api) -> None:
    for one in everything(LAB, **READY):
        api.add(one)
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "no") if "services" in path or "volumes" in path else None
    )
    assert found(cluster) == ["pvc llm-model of run 'lab'", "secret llm-model-oss of run 'lab'"]


def removed(
    cluster: Cluster, taken: list[Occupant], timeout_s: float = 5
) -> tuple[list[TeardownStep], Any]:
    def connect(run: str) -> Cluster:
        return Cluster(cluster._transport, context="c", namespace=cluster.namespace, run=run)

    steps: list[TeardownStep] = []
    error = evict(connect, taken, timeout_s=timeout_s, manner=PATIENT, on_step=steps.append)
    return steps, error


def test_only_what_was_named_goes(cluster: Cluster, api: Api) -> None:
    for one in everything(LAB, **READY):
        api.add(one)
    stays = api.add(obj(KSVC, "their-other", labels=LAB, **READY))
    api.add(obj(KSVC, "second", labels=OURS | {"qwenkit.dev/run": "third"}))
    taken = list(occupants(cluster, "qwen", "llm-model", "llm-model-oss"))
    steps, error = removed(cluster, taken)
    assert error is None
    assert [step.name for step in steps if step.removed] == [
        "ksvc qwen",
        "pvc llm-model",
        "pv llm-model",
        "secret llm-model-oss",
    ]
    assert stays in api.objects.values()
    assert len(api.objects) == 2


def test_what_a_third_run_has_made_meanwhile_stays(cluster: Cluster, api: Api) -> None:
    api.add(obj(KSVC, "qwen", labels=LAB))
    taken = list(occupants(cluster, "qwen", "llm-model", "llm-model-oss"))
    api.add(obj(KSVC, "qwen", labels=OURS | {"qwenkit.dev/run": "third"}))
    steps, error = removed(cluster, taken)
    assert (error, len(api.objects)) == (None, 1)
    assert "not ours, not touched" in steps[0].outcome


def test_what_stays_is_an_error_and_the_rest_goes(cluster: Cluster, api: Api) -> None:
    for one in everything(LAB):
        api.add(one)
    claim = api.get("PersistentVolumeClaim", "llm-model")
    assert claim
    claim["metadata"]["finalizers"] = ["kubernetes.io/pvc-protection"]
    taken = list(occupants(cluster, "qwen", "llm-model", "llm-model-oss"))
    _, error = removed(cluster, taken, timeout_s=0.2)
    assert isinstance(error, WaitTimeout)
    assert len(api.objects) == 1


def test_a_service_that_may_be_read_but_not_listed_is_named(cluster: Cluster, api: Api) -> None:
    api.add(obj(KSVC, "qwen", labels=LAB, **READY))
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "no") if path.endswith("/services") else None
    )
    assert found(cluster) == ["ksvc qwen of run 'lab', Ready"]
