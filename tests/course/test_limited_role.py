"""The whole chain with a role that is limited to one namespace; the PV is an administrator's."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from real_sandbox import RealSandbox, limited_kubeconfig

from qwenkit.cli import main
from qwenkit.cluster import requests
from qwenkit.cluster.api.transport import Reply
from qwenkit.cluster.api_errors import from_api, needs
from qwenkit.cluster.preflight.rights import rights
from qwenkit.errors import QwenkitError
from qwenkit.sandbox import process
from qwenkit.settings import Settings

USER = "system:serviceaccount:default:limited"
NAMES = {"service": "walled", "volume": "walled", "run": "walled", "prefix": "walled"}
HIDDEN = "may not look: the role needs "
# What the role does not let doctor see: each check, and what it would need.
UNSEEN = {
    "gpus": "list nodes at cluster scope",
    "driver": "list nodes at cluster scope",
    "scale": "list nodes at cluster scope",
    "fit": "list nodes at cluster scope",
    "rollout": "list nodes at cluster scope",
    "rrsa": "list nodes at cluster scope",
    "image": "list nodes at cluster scope",
    "csi-driver": "get csidrivers.storage.k8s.io at cluster scope",
    "redirect": "get configmaps in namespace knative-serving",
    "timeout": "get configmaps in namespace knative-serving",
    "pvc-flag": "get configmaps in namespace knative-serving",
    "feature-flags": "get configmaps in namespace knative-serving",
}


@pytest.fixture
def admin(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> RealSandbox:
    """Work in the environment of the sandbox, under names of one's own."""
    for name, value in process.environment(sandbox).items():
        monkeypatch.setenv(name, value)
    for name, value in NAMES.items():
        monkeypatch.setenv(f"QWENKIT_{name.upper()}", value)
    return RealSandbox(sandbox)


@pytest.fixture
def qwenkit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return a function that runs a command here and returns what it prints."""

    def run(*words: str, rc: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["qwenkit", *words])
        assert main.main() == rc, capsys.readouterr()
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the API server refuses from now on."""
    found: list[str] = []

    def kept(reply: Reply, what: str, **facts: Any) -> QwenkitError:
        error = from_api(reply, what, **facts)
        found.extend([needs(error.why)] if reply.status == 403 else [])
        return error

    monkeypatch.setattr(requests, "from_api", kept)
    return found


def test_the_chain_passes_and_doctor_says_what_it_may_not_see(
    admin: RealSandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qwenkit: Callable[..., str],
    refused: list[str],
) -> None:
    admin.kubectl(
        "delete", "events", "--all", "--wait=false"
    )  # an image that another test pulled is no news here
    (tmp_path / "admin.yaml").write_text(qwenkit("render", "--admin", "--user", USER), "utf-8")
    monkeypatch.setenv("KUBECONFIG", str(limited_kubeconfig(admin.root / "kubeconfig", [])))
    _without_rights(checks(qwenkit("doctor", "--json", rc=1)))

    admin.kubectl("apply", "-f", str(tmp_path / "admin.yaml"))
    monkeypatch.setenv("QWENKIT_GATEWAY", admin.state.gateway)
    _with_the_role(checks(qwenkit("doctor", "--json")))
    refused.clear()
    _use(qwenkit, tmp_path / "evidence")

    removed = json.loads(qwenkit("teardown", "--delete-weights", "--now", "--json"))
    unknown = [f"pv: {HIDDEN}list persistentvolumes at cluster scope"]
    assert removed["leaks"] == {"found": [], "unknown": unknown}
    # The volume and its claim stay for the next run: they are the administrator's.
    phases = "jsonpath={.items[*].status.phase}"
    assert admin.kubectl("get", "pv/walled", "pvc/walled", "-o", phases) == "Bound Bound"
    assert "walled" not in admin.kubectl("get", "ksvc,pods,secrets", "-o", "name")
    admin.kubectl("delete", "-f", str(tmp_path / "admin.yaml"))

    may = rights(Settings())["cluster"]
    known = {str(replace(one, verbs=verb)) for one in may for verb in one.verbs.split()}
    assert set(refused) <= known, "the list of rights is not whole"


def checks(report: str) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(report)["checks"]}


def _without_rights(found: dict[str, dict[str, str]]) -> None:
    deploy, gateway = found["rights-deploy"], found["gateway"]
    assert deploy["verdict"] == "fail"
    assert "create, patch persistentvolumeclaims" in deploy["why"]
    assert "qwenkit render --admin --user NAME" in deploy["fix"]
    assert (gateway["verdict"], gateway["found"]) == ("unknown", "")
    assert "get services in namespace kourier-system" in gateway["why"]
    assert "--set gateway=URL" in gateway["fix"]
    assert found["namespace"]["why"] == f"{HIDDEN}get namespaces in namespace default"


def _with_the_role(found: dict[str, dict[str, str]]) -> None:
    assert {name: found[name]["verdict"] for name in UNSEEN} == dict.fromkeys(UNSEEN, "unknown")
    for name, needed in UNSEEN.items():
        assert found[name]["why"].startswith(HIDDEN + needed)
    others = {name: check["verdict"] for name, check in found.items() if name not in UNSEEN}
    assert others.pop("rights-cluster") == "warn"
    assert "GPUs, CPU and memory are not known" in found["rights-cluster"]["why"]
    assert set(others.values()) == {"ok", "not applicable"}, others
    assert found["names"]["found"] == "an administrator's: pvc walled, pv walled"


def _use(qwenkit: Callable[..., str], evidence: Path) -> None:
    qwenkit("upload", "modelscope:qwen/Qwen-7B-Chat-Int8", "oss://qwenkit-sandbox/walled")
    assert json.loads(qwenkit("deploy", "--json"))["revision"] == "walled-00001"
    assert qwenkit("query", "杭州西湖", "--max-tokens", "2", "--temperature", "0") == "西湖位于\n"
    load = json.loads(qwenkit("load", "--seconds", "2", "--clients", "2", "--json"))
    assert load["ok"] > 0
    assert load["errors"] == {}
    assert json.loads(qwenkit("explain", "--json"))["kind"] == "ready"
    assert json.loads(qwenkit("status", "--json"))["ready"]
    assert "walled-00002" in qwenkit("deploy", "--dry-run", "--set", "scale_target=3")
    qwenkit("evidence", str(evidence))
    assert (evidence / "objects.json").is_file()
