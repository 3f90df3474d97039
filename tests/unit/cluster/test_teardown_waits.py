"""Pods that stay, steps that fail, interrupts: what can be removed is removed, and audited."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, obj, status

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.ending import ending, ignores_sigterm
from qwenkit.cluster.removal import Manner
from qwenkit.cluster.teardown import audit, remove_and_audit, teardown
from qwenkit.errors import InvalidValue, QwenkitError, WaitTimeout
from qwenkit.settings import Settings

PV, PVC, POD = "v1/PersistentVolume", "v1/PersistentVolumeClaim", "v1/Pod"
SERVICE = {"serving.knative.dev/service": "qwen"}
NAME = "qwen-00001-deployment-x"


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def loading_pod(*, age_s: float, grace_s: int = 600, ready_at: float | None = None) -> Any:
    """A Knative pod that was deleted ``age_s`` ago, while its server loaded."""
    now = datetime.now(UTC)
    statuses = [{"name": name, "state": {"running": {}}} for name in ("vllm", "queue-proxy")]
    changed = now - timedelta(seconds=age_s + 60 if ready_at is None else ready_at)
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": text(changed)}
    claim = [{"name": "m", "persistentVolumeClaim": {"claimName": "llm-model"}}]
    pod = obj(POD, NAME, labels=SERVICE, spec={"volumes": claim, "nodeName": "n1"})
    pod["status"] = {"containerStatuses": statuses, "conditions": [ready]}
    pod["metadata"] |= {
        "deletionTimestamp": text(now + timedelta(seconds=grace_s - age_s)),
        "deletionGracePeriodSeconds": grace_s,
    }
    return pod


@pytest.fixture
def held(api: Api) -> Api:
    """All of a run, and a pod of its Service that loads and ignores SIGTERM."""
    for kind, name in [("v1/Secret", "llm-model-oss"), (PV, "llm-model"), (KSVC, "qwen")]:
        api.add(obj(kind, name, labels=OURS, spec={}))
    claim = api.add(obj(PVC, "llm-model", labels=OURS, spec={}))
    claim["metadata"]["finalizers"] = ["kubernetes.io/pvc-protection"]
    api.add(loading_pod(age_s=45))
    return api


def refusing_deletes(part: str, answer: Any) -> Callable[[str, str, Any], Any]:
    return lambda method, path, _body: answer if method == "DELETE" and part in path else None


def end_pod_on(api: Api, grace: list[Any]) -> Callable[[str, str, Any], None]:
    """Let the pod and then the claim go when the grace of the pod is shortened."""

    def answer(method: str, path: str, body: Any) -> None:
        if method == "DELETE" and path.endswith(f"/pods/{NAME}"):
            grace.append((body["gracePeriodSeconds"], body["preconditions"]["uid"]))
            claim = api.get("PersistentVolumeClaim", "llm-model")
            if claim:
                claim["metadata"].pop("finalizers", None)

    return answer


def test_a_pod_that_ignores_sigterm_is_shown_and_the_rest_is_removed(
    cluster: Cluster, held: Api
) -> None:
    lines: list[str] = []
    manner = Manner(on_change=lambda change: lines.append(str(change)))
    with pytest.raises(WaitTimeout, match="children of ksvc qwen gone: not after") as caught:
        teardown(cluster, Settings(teardown_timeout_s=0.3), manner=manner)
    assert f"pod {NAME} is Terminating, at most 570 s more" in lines[0]
    assert "container vllm ignores SIGTERM" in lines[0]
    assert "--now" in caught.value.fix
    assert any("ignores SIGTERM" in line for line in caught.value.context["evidence"])
    assert "pvc llm-model gone" in str(caught.value.context["evidence"])
    # What depends on no pod is gone, the claim is being deleted, and the pod was not touched.
    left = {key[0] for key in held.objects}
    assert left == {PVC, POD}
    assert held.get("PersistentVolumeClaim", "llm-model")["metadata"]["deletionTimestamp"]  # type: ignore[index]
    assert ("DELETE", POD) not in {(m, p.split("/")[-1]) for m, p, *_ in held.requests}
    assert set(audit(cluster, Settings()).found) == {"pvc/llm-model", f"pod/{NAME}"}


def test_now_gives_terminating_pods_one_more_second_by_uid(cluster: Cluster, held: Api) -> None:
    grace: list[Any] = []
    uid = held.get("Pod", NAME)["metadata"]["uid"]  # type: ignore[index]
    end = end_pod_on(held, grace)
    held.refuse = lambda *request: end(*request)
    report = teardown(cluster, Settings(), manner=Manner(now=True))
    assert grace == [(1, uid)]
    assert held.objects == {}
    assert f"pod {NAME}: grace period shortened to 1 s" in str(report)


@pytest.mark.parametrize("yes", [True, False])
def test_it_asks_once_and_only_about_what_ignores_sigterm(
    cluster: Cluster, held: Api, yes: bool
) -> None:
    asked: list[str] = []
    grace: list[Any] = []
    end = end_pod_on(held, grace)
    held.refuse = lambda *request: end(*request)

    def ask(what: str) -> bool:
        asked.append(what)
        return yes

    try:
        teardown(cluster, Settings(teardown_timeout_s=0.3), manner=Manner(ask=ask))
    except WaitTimeout:
        assert not yes
    assert len(asked) == 1
    assert "ignores SIGTERM" in asked[0]
    assert len(grace) == yes


def test_pods_of_others_keep_their_grace(cluster: Cluster, held: Api) -> None:
    held.get("PersistentVolumeClaim", "llm-model")["metadata"]["labels"] = {}  # type: ignore[index]
    del held.objects[KSVC, "default", "qwen"]
    with pytest.raises(WaitTimeout):
        teardown(cluster, Settings(teardown_timeout_s=0.2), manner=Manner(now=True))
    assert held.get("Pod", NAME) is not None


def test_a_pod_that_may_not_be_shortened_is_reported(cluster: Cluster, held: Api) -> None:
    held.refuse = refusing_deletes("/pods/", status(403, "Forbidden", "pods is forbidden"))
    said: list[str] = []
    with pytest.raises(WaitTimeout):
        teardown(
            cluster,
            Settings(teardown_timeout_s=0.2),
            on_step=lambda step: said.append(str(step)),
            manner=Manner(now=True),
        )
    assert f"pod {NAME}: its grace period was not shortened: pods is forbidden" in said
    assert "secret llm-model-oss: deleted" in "\n".join(said)


@pytest.mark.parametrize(
    "kind", ["services/", "persistentvolumeclaims/", "persistentvolumes/", "secrets/"]
)
@pytest.mark.parametrize("code", [400, 422])
def test_a_step_that_fails_does_not_keep_the_others(
    cluster: Cluster, api: Api, kind: str, code: int
) -> None:
    for one, name in [("v1/Secret", "s"), (PV, "v"), (PVC, "c"), (KSVC, "qwen")]:
        api.add(obj(one, name, labels=OURS, spec={}))
    api.refuse = refusing_deletes(kind, status(code, "Invalid", "a webhook is broken"))
    ended = remove_and_audit(lambda: cluster, Settings(), open_weights=lambda: None)
    assert isinstance(ended.error, QwenkitError)
    assert "a webhook is broken" in ended.error.why
    assert len(ended.leaks.found) == len(api.objects) == 1
    assert any("failed" in step.outcome for step in ended.removed.steps)


class Interrupted:
    """A bucket whose clean-up is interrupted, and which cannot be listed."""

    scope = ""

    def abort_uploads(self) -> int:
        raise KeyboardInterrupt

    def delete_objects(self) -> int:
        return 0

    def left(self, *, delete_weights: bool) -> Any:
        raise QwenkitError("the bucket does not answer")


def test_an_interrupt_ends_with_the_audit(cluster: Cluster, held: Api) -> None:
    settings = Settings(teardown_timeout_s=0.2)
    ended = remove_and_audit(lambda: cluster, settings, open_weights=Interrupted)
    assert isinstance(ended.error, KeyboardInterrupt)
    assert "pvc/llm-model" in ended.leaks.found
    assert ended.leaks.unknown == ("bucket: the bucket does not answer",)
    assert "nothing is left" not in str(ended.leaks)


def test_an_object_that_goes_late_is_no_failure(cluster: Cluster, held: Api) -> None:
    def answer(method: str, path: str, _body: Any) -> None:
        if method == "DELETE" and "/secrets/" in path:
            held.objects.pop((POD, "default", NAME))
            held.objects.pop((PVC, "default", "llm-model"))

    held.refuse = answer
    steps = teardown(cluster, Settings(teardown_timeout_s=0.2)).steps
    late = [step.name for step in steps if step.outcome == "gone after all"]
    assert late == ["children of ksvc qwen", "pvc llm-model"]
    assert audit(cluster, Settings()).found == ()


@pytest.mark.parametrize(
    ("age", "shown"),
    [
        ({"age_s": 45}, "has no request to finish"),
        ({"age_s": 20}, ""),
        ({"age_s": 45, "ready_at": 30}, ""),
        ({"age_s": 700}, "its grace period is over"),
        ({"age_s": 700, "ready_at": 650}, "its grace period is over"),
    ],
)
def test_what_shows_that_sigterm_is_ignored(age: dict[str, float], shown: str) -> None:
    pod = loading_pod(**age)  # type: ignore[arg-type]
    found = ignores_sigterm(pod, datetime.now(UTC))
    assert shown in found
    assert bool(found) == bool(shown)
    for one in pod["status"]["containerStatuses"]:
        one["state"] = {"terminated": {"exitCode": 0}}
    assert ignores_sigterm(pod, datetime.now(UTC)) == ""


def test_a_clock_that_is_wrong_gives_no_longer_time_than_the_grace() -> None:
    pod = loading_pod(age_s=0)
    assert "at most 600 s more" in ending(pod, datetime.now(UTC) - timedelta(hours=3))
    assert "its grace period is over" in ending(pod, datetime.now(UTC) + timedelta(hours=3))


def test_a_pod_is_never_ended_by_force(cluster: Cluster, held: Api) -> None:
    pod = cluster.get("pod", NAME)
    with pytest.raises(InvalidValue):
        cluster.shorten_grace(pod, 0)
    with pytest.raises(InvalidValue):
        cluster.shorten_grace(cluster.get("pvc", "llm-model"), 1)


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 660),
        ({"timeout_s": 900.0}, 900),
        ({"timeout_s": 120.0}, 120),
        ({"teardown_timeout_s": 5.0}, 5),
    ],
)
def test_by_default_the_wait_is_longer_than_a_pod_can_last(
    values: dict[str, float], seconds: float
) -> None:
    assert Settings(**values).seconds("teardown") == seconds
