"""The Job of ``load --in-cluster``: its pods' shares and permissions."""

from __future__ import annotations

import pytest

from qwenkit.capacity.simulation.traffic import ClosedLoop
from qwenkit.errors import SettingsError
from qwenkit.in_cluster.load import load_job
from qwenkit.inference.load.shares import LoadPlan
from qwenkit.manifests.template import plain
from qwenkit.settings import Settings

PLAN = LoadPlan(ClosedLoop(((0, 6), (30, 0))), model="qwen", timeout_s=60, workers=3, at=7.0)
ADDRESS = "http://qwen.default.svc.cluster.local"


def test_each_pod_is_told_the_same_plan_and_may_do_nothing_else() -> None:
    settings = Settings(transfer_image="registry/qwenkit:1", run="alice")
    job = plain(load_job(settings, PLAN, ADDRESS, 150.7))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 150)
    (container,) = pod["containers"]
    assert container["command"] == ["qwenkit", "load-worker"]
    address, *words = container["args"]
    assert (address, LoadPlan.of(words)) == (ADDRESS, PLAN)
    assert container["image"] == "registry/qwenkit:1"
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for one in (job, spec["template"]):
        assert one["metadata"]["labels"]["qwenkit.dev/run"] == "alice"
    other = load_job(settings.model_copy(update={"service": "b"}), PLAN, ADDRESS, 1)
    assert other["metadata"]["name"] != job["metadata"]["name"]


def test_its_key_is_the_server_s_secret_s(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(transfer_image="registry/qwenkit:1", api_key_secret="vllm-key")

    def reference() -> dict[str, object]:
        job = plain(load_job(settings, PLAN, ADDRESS, 150))
        env = job["spec"]["template"]["spec"]["containers"][0]["env"]
        return next(one for one in env if one["name"] == "OPENAI_API_KEY")["valueFrom"]

    assert reference() == {"secretKeyRef": {"name": "vllm-key", "key": "api-key"}}
    monkeypatch.setenv("OPENAI_API_KEY", "one-of-my-own")
    assert reference()["secretKeyRef"]["key"] == "OPENAI_API_KEY"


def test_it_needs_an_image() -> None:
    with pytest.raises(SettingsError, match="an image that has qwenkit in it"):
        load_job(Settings(), PLAN, ADDRESS, 1)
