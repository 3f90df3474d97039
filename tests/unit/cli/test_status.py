"""``qwenkit status``: what runs, since when, at what cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, obj, serving, write_kubeconfig

from qwenkit.cli import main

LABELS = {"serving.knative.dev/service": "qwen", "serving.knative.dev/revision": "qwen-00001"}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
Status = Callable[..., tuple[int, Any]]


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(name: str, *, node: str = "gpu-1", **more: Any) -> dict[str, Any]:
    return obj("v1/Pod", name, labels=LABELS, spec={"nodeName": node}, **more)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def status(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Status]:
    """Run the command; return its exit code, and its JSON with --json."""
    with serving(api.app()) as url:
        path = write_kubeconfig(tmp_path / "config", url, context="mine")
        monkeypatch.setenv("KUBECONFIG", str(path))
        monkeypatch.setenv("QWENKIT_CONTEXT", "mine")

        def run(*words: str) -> tuple[int, Any]:
            monkeypatch.setattr(sys, "argv", ["qwenkit", "status", *words])
            code, shown = main.main(), capsys.readouterr().out
            return code, json.loads(shown) if "--json" in words else shown

        yield run


def test_nothing_runs(status: Status) -> None:
    code, said = status("--json")
    assert (code, said["running"], "gpus" not in said) == (1, False, True)
    assert said["weights"].startswith("not known: bucket")
    assert "nothing runs: there is no default/qwen on mine" in status()[1]


def test_what_runs_is_counted_and_priced(api: Api, status: Status) -> None:
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": ago(hours=3)}]
    traffic = [{"revisionName": "qwen-00001", "percent": 100}]
    url = "http://qwen.default.example.com"
    service = obj(KSVC, "qwen", labels=OURS, status={"url": url, "traffic": traffic})
    service["status"]["conditions"] = ready
    container = {"resources": {"limits": {"nvidia.com/gpu": 2}}}
    service["spec"] = {"template": {"spec": {"containers": [container]}}}
    service["metadata"]["creationTimestamp"] = ago(days=4)
    api.add(service)
    revision = obj("serving.knative.dev/v1/Revision", "qwen-00001", labels=LABELS)
    revision["metadata"]["creationTimestamp"] = ago(days=3)
    api.add(revision)
    api.add(obj("v1/Node", "gpu-1", labels={"aliyun.accelerator/nvidia_name": "Tesla-V100"}))
    api.add(pod("a", status=READY))
    api.add(pod("b"))
    api.add(pod("c", node=""))
    api.add(pod("over", status={"phase": "Succeeded"}))
    claim = obj("v1/PersistentVolumeClaim", "llm-model", labels=OURS)
    held = {"folders": {"Qwen-7B-Chat-Int8": {"files": 12, "bytes": 9}}}
    claim["metadata"]["annotations"] = {"qwenkit.dev/weights-held": json.dumps(held)}
    api.add(claim)
    code, said = status("--json", "--set", "storage=pvc", "--set", "run=mine")
    assert (code, said["ready"], said["run"], said["url"]) == (0, True, "default", url)
    assert said["gpus"] == {
        "count": 4,
        "model": "Tesla-V100",
        "nodes": ["gpu-1"],
        "cost_per_hour": 104,
        "currency": "CNY",
        "is_example": True,
    }
    (live,) = said["revisions"]
    assert (live["ready"], live["starting"], live["percent"]) == (1, 2, 100)
    assert said["weights"]["objects"] == 12
    assert "ksvc qwen of run 'default', Ready" in said["others"]
    shown = status("--set", "gateway=http://127.0.0.1:8080")[1]
    assert "default/qwen on mine: Ready for 3 h; made 4 d ago by run 'default'" in shown
    assert "4 × Tesla-V100 on gpu-1: 104 CNY an hour, an example price" in shown
    assert "http://127.0.0.1:8080" in shown
    labels = {"aliyun.accelerator/nvidia_name": "NVIDIA-A10"}
    api.objects["v1/Node", "", "gpu-1"]["metadata"]["labels"] = labels
    assert status("--json", "--set", "gpu=V100-16")[1]["gpus"]["cost_per_hour"] == 40


def test_a_service_that_is_not_ready_says_why(api: Api, status: Status) -> None:
    failed = [{"type": "Ready", "status": "False", "message": "Revision failed"}]
    api.add(obj(KSVC, "qwen", spec={}, status={"conditions": failed}))
    code, shown = status()
    assert (code, "not Ready: Revision failed" in shown) == (0, True)
    assert "none held" in shown
