"""Jobs run to their end as on a real cluster; the test plays the kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import paced
import pytest
from controllers_world import Stage

from qwenkit.sandbox.controllers.workloads.indexes import INDEX
from qwenkit.sandbox.controllers.workloads.job import TRACKING
from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.reads.columns import columns
from qwenkit.sandbox.kube.writes.validation import validate


class Jobs(Stage):
    """A cluster whose pods do what the test says."""

    def kubelet(self) -> Coroutine[Any, Any, None]:
        return asyncio.Event().wait()  # type: ignore[return-value]

    def job(self) -> Object:
        return self.store.get("Job", "default", "copy")

    def pods(self) -> list[Object]:
        return self.store.list("Pod", "default", {"batch.kubernetes.io/job-name": "copy"})

    async def pod(self) -> Object:
        """Wait for a pod on the node that has not ended."""
        await self.eventually(self.living)
        return self.living()[0]

    def living(self) -> list[Object]:
        ended = ("Succeeded", "Failed")
        found = [pod for pod in self.pods() if pod["status"]["phase"] not in ended]
        return [pod for pod in found if pod["spec"].get("nodeName")]

    def names(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.pods()}

    def end(self, pod: Object, phase: str) -> None:
        found = self.store.get("Pod", "default", pod["metadata"]["name"])
        found["status"]["phase"] = phase
        self.store.update_status("Pod", found)

    def events(self) -> list[tuple[str, str]]:
        found = self.store.list("Event", "default")
        return [
            (one["type"], one["reason"])
            for one in sorted(found, key=lambda one: int(one["metadata"]["resourceVersion"]))
            if one["involvedObject"]["kind"] == "Job"
        ]

    def conditions(self) -> list[tuple[str, str, str]]:
        found = self.job()["status"].get("conditions", [])
        return [(one["type"], one["reason"], one["message"]) for one in found]

    def ended(self) -> bool:
        return any(kind in ("Complete", "Failed") for kind, _, _ in self.conditions())

    def printed(self) -> list[str]:
        now = datetime.now(UTC)
        found = {c.name: str(c.cell(self.job(), now)) for c in columns(Kinds()["Job"])}
        return [found["Name"], found["Status"], found["Completions"]]


def job(**spec: Any) -> Object:
    container = {"name": "c", "image": "registry.cn-hangzhou.aliyuncs.com/a/b:1"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "metadata": {"name": "copy", "namespace": "default"},
        "spec": {"template": template, **spec},
    }


def play(test: Callable[[Jobs], Awaitable[None]], *, scale: float = 1, **spec: Any) -> None:
    async def run() -> None:
        stage = Jobs(scale=scale, with_claim=False)
        async with stage.running():
            stage.store.create("Job", job(**spec))
            await test(stage)

    paced.run(run())


def test_a_job_runs_one_pod_to_completion() -> None:
    async def test(stage: Jobs) -> None:
        pod = await stage.pod()
        assert pod["metadata"]["name"].startswith("copy-")
        uid = stage.job()["metadata"]["uid"]
        assert pod["metadata"]["labels"] == {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": "copy",
            "controller-uid": uid,
            "job-name": "copy",
        }
        (owner,) = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("Job", uid, True)
        assert pod["metadata"]["finalizers"] == [TRACKING]
        await stage.eventually(lambda: stage.job()["status"].get("active") == 1)
        assert stage.printed() == ["copy", "Running", "0/1"]

        stage.end(pod, "Succeeded")
        await stage.eventually(stage.ended)
        status = stage.job()["status"]
        reached = ("CompletionsReached", "Reached expected number of succeeded pods")
        assert stage.conditions() == [("SuccessCriteriaMet", *reached), ("Complete", *reached)]
        assert status["completionTime"] >= status["startTime"]
        counts = (
            "active",
            "succeeded",
            "failed",
            "ready",
            "terminating",
            "uncountedTerminatedPods",
        )
        assert [status.get(field) for field in counts] == [None, 1, None, 0, 0, {}]
        assert stage.events() == [("Normal", "SuccessfulCreate"), ("Normal", "Completed")]
        assert stage.printed() == ["copy", "Complete", "1/1"]
        await stage.eventually(lambda: not stage.pods()[0]["metadata"]["finalizers"])
        assert len(stage.pods()) == 1

    play(test)


def test_failures_are_retried_later_and_later_up_to_the_limit() -> None:
    async def test(stage: Jobs) -> None:
        waits = []
        for attempt in (1, 2, 3):
            pod = await stage.pod()
            stage.end(pod, "Failed")
            failed_at = stage.clock.now()
            if attempt < 3:
                await stage.pod()
                waits.append(stage.clock.now() - failed_at)
        await stage.eventually(stage.ended)
        assert waits[0] >= 10
        assert waits[1] >= 20
        reached = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        assert stage.conditions() == [("FailureTarget", *reached), ("Failed", *reached)]
        assert stage.job()["status"]["failed"] == 3
        assert "completionTime" not in stage.job()["status"]
        assert stage.events()[-1] == ("Warning", "BackoffLimitExceeded")
        assert stage.printed() == ["copy", "Failed", "0/1"]
        assert len(stage.pods()) == 3, "failed pods stay: their logs are to be read"

    play(test, scale=60, backoffLimit=2)


def test_a_pod_deleted_by_hand_counts_as_failed_and_is_replaced() -> None:
    async def test(stage: Jobs) -> None:
        first = (await stage.pod())["metadata"]
        stage.store.delete("Pod", "default", first["name"], grace_seconds=0)
        await stage.eventually(lambda: stage.job()["status"].get("failed") == 1)
        await stage.eventually(lambda: stage.living() and first["name"] not in stage.names())

    play(test, scale=60)


def test_at_its_deadline_the_pods_are_stopped_and_then_it_has_failed() -> None:
    async def test(stage: Jobs) -> None:
        pod = await stage.pod()
        await stage.eventually(lambda: len(stage.conditions()) == 1)
        late = ("DeadlineExceeded", "Job was active longer than specified deadline")
        assert stage.conditions() == [("FailureTarget", *late)]
        assert stage.printed()[1] == "FailureTarget"
        stage.end(pod, "Failed")
        stage.store.delete("Pod", "default", pod["metadata"]["name"], grace_seconds=0)
        await stage.eventually(stage.ended)
        assert stage.conditions()[-1] == ("Failed", *late)
        assert stage.pods() == []

    play(test, activeDeadlineSeconds=1)


def test_a_finished_job_goes_with_its_pods_after_its_time() -> None:
    async def test(stage: Jobs) -> None:
        stage.end(await stage.pod(), "Succeeded")
        await stage.eventually(lambda: not stage.store.list("Job") and not stage.pods())

    play(test, ttlSecondsAfterFinished=1)


def test_deleting_a_job_takes_its_pods_with_it() -> None:
    async def test(stage: Jobs) -> None:
        stage.end(await stage.pod(), "Succeeded")
        await stage.eventually(stage.ended)
        stage.store.delete("Job", "default", "copy")
        await stage.eventually(lambda: not stage.pods())

    play(test)


def test_what_the_sandbox_s_jobs_do_not_do_is_said() -> None:
    async def test(stage: Jobs) -> None:
        await stage.eventually(lambda: ("Warning", "NotInSandbox") in stage.events())
        (event,) = [one for one in stage.store.list("Event") if one["reason"] == "NotInSandbox"]
        assert event["message"] == "the sandbox's Jobs have no backoffLimitPerIndex, suspension"
        assert stage.pods() == []

    play(test, suspend=True, completionMode="Indexed", backoffLimitPerIndex=1)


def test_each_index_has_a_pod_of_its_own_and_must_succeed_once() -> None:
    def index(pod: Object) -> str:
        metadata, (container,) = pod["metadata"], pod["spec"]["containers"]
        (found,) = {metadata[field][INDEX] for field in ("annotations", "labels")}
        assert metadata["name"].startswith(f"copy-{found}-")
        assert pod["spec"]["hostname"] == f"copy-{found}"
        path = f"metadata.labels['{INDEX}']"
        assert container["env"][0]["name"] == "JOB_COMPLETION_INDEX"
        assert container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"] == path
        return str(found)

    async def test(stage: Jobs) -> None:
        async def two() -> dict[str, Object]:
            await stage.eventually(lambda: len(stage.living()) == 2)
            return {index(pod): pod for pod in stage.living()}

        first = await two()
        assert set(first) == {"0", "1"}
        stage.end(first["1"], "Succeeded")
        second = await two()
        assert set(second) == {"0", "2"}
        stage.end(first["0"], "Failed")
        third = await two()
        assert set(third) == {"0", "2"}
        assert third["0"]["metadata"]["name"] != first["0"]["metadata"]["name"]
        assert stage.job()["status"]["completedIndexes"] == "1"
        for pod in third.values():
            stage.end(pod, "Succeeded")
        last = await two()
        assert stage.job()["status"]["completedIndexes"] == "0-2"
        stage.end(last["4"], "Succeeded")
        stage.end(last["3"], "Succeeded")
        await stage.eventually(stage.ended)
        status = stage.job()["status"]
        assert (status["completedIndexes"], status["succeeded"]) == ("0-4", 5)
        assert stage.printed() == ["copy", "Complete", "5/5"]

    play(test, scale=60, completionMode="Indexed", completions=5, parallelism=2)


def test_what_an_index_may_be_does_not_stop_the_controller() -> None:
    async def test(stage: Jobs) -> None:
        await stage.eventually(lambda: len(stage.living()) == 2)
        pod = stage.living()[0]
        pod["metadata"]["annotations"][INDEX] = "changed"
        stage.store.update("Pod", pod)
        stage.end(pod, "Succeeded")
        await stage.eventually(lambda: len(stage.names()) == 3)
        assert stage.job()["status"]["succeeded"] == 0

    play(test, scale=60, completionMode="Indexed", completions=2**31 - 1, parallelism=2)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"parallelism": 2}, "spec.completions: Required value: when completion mode is Indexed"),
        (
            {"completions": 101},
            f'metadata.name: Invalid value: "{"j" * 60}": will not able to create pod with '
            f"invalid DNS label: {'j' * 60}-100",
        ),
    ],
)
def test_what_the_api_server_refuses_in_jobs_with_indexes(spec: dict[str, int], words: str) -> None:
    made = job(completionMode="Indexed", **spec)
    made["metadata"]["name"] = "j" * 60
    with pytest.raises(ApiError) as refused:
        validate(Kinds()["Job"], made)
    assert refused.value.message == f'Job.batch "{"j" * 60}" is invalid: {words}'


@pytest.mark.parametrize("policy", [{}, {"restartPolicy": "Always"}])
def test_a_job_s_pods_end(policy: dict[str, str]) -> None:
    made = job()
    del made["spec"]["template"]["spec"]["restartPolicy"]
    made["spec"]["template"]["spec"] |= policy
    with pytest.raises(ApiError) as refused:
        validate(Kinds()["Job"], made)
    assert refused.value.message == (
        'Job.batch "copy" is invalid: spec.template.spec.restartPolicy: Required value: '
        'valid values: "OnFailure", "Never"'
    )


def test_the_template_of_a_job_stays_as_it_is() -> None:
    changed = job()
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    with pytest.raises(ApiError, match=r"spec\.template: Invalid value: .*field is immutable"):
        validate(Kinds()["Job"], changed, job())
