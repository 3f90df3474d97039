"""The cluster of tools/kind, the workflow and params/kind.yaml agree, and can be read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from qwenkit.manifests.lint import lint
from qwenkit.manifests.render import render
from qwenkit.sandbox.kubelet.images import TRANSFER_IMAGE
from qwenkit.serving.images import CPU
from qwenkit.settings import Settings

ROOT = Path(__file__).parents[3]
KIND = ROOT / "tools/kind"
STATED = dict(re.findall(r"^(\w+)=(.*)$", (KIND / "versions.env").read_text(), re.MULTILINE))


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def test_the_versions_are_stated_once() -> None:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    files = [ROOT / n for n in names.stdout.split() if n.startswith(("tools/kind", ".github"))]
    texts = {file: file.read_text("utf-8") for file in files if file.name != "versions.env"}
    assert len(texts) >= 3
    for name, value in STATED.items():
        assert not [file for file, text in texts.items() if value and value in text], name
    script = (KIND / "up.sh").read_text()
    assert [name for name in STATED if f"${name}" not in script] == []


def test_the_scripts_are_bash_and_the_rest_is_yaml() -> None:
    for script in KIND.glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)
        assert script.stat().st_mode & 0o111
    (node,) = read("tools/kind/cluster.yaml")["nodes"]
    assert f'"nodePort":{node["extraPortMappings"][0]["containerPort"]}' in (
        (KIND / "up.sh").read_text()
    )


def test_the_parameters_name_the_images_that_are_there() -> None:
    params = read("notebooks/params/kind.yaml")
    assert params["image"] == CPU.name
    assert params["transfer_image"] == TRANSFER_IMAGE
    assert params["storage"] == "pvc"
    assert params["gpu_count"] == 0


def test_the_parameters_contradict_nothing_and_the_lint_only_advises() -> None:
    settings = Settings(**read("notebooks/params/kind.yaml"))
    assert settings.contradictions() == []
    found = lint(render(settings), gpu=settings.gpu)
    assert {finding.level for finding in found} <= {"advice"}, found


def test_the_workflow_runs_the_course_on_that_cluster_every_week_and_by_its_label() -> None:
    workflow = read(".github/workflows/kind.yaml")
    assert {"schedule", "workflow_dispatch", "pull_request"} == set(workflow[True])  # "on"
    (job,) = workflow["jobs"].values()
    assert "labels.*.name, 'kind'" in job["if"]
    assert "make kind" in [step.get("run") for step in job["steps"]]
    recipe = (ROOT / "Makefile").read_text("utf-8").partition("\nkind:")[2].partition("\n\n")[0]
    for word in ("tools/kind/up.sh", "qwenkit run --context kind-qwenkit", "params/kind.yaml"):
        assert word in recipe
