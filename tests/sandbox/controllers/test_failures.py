"""A controller that fails says so: at once, then more and more seldom, and when it is over."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import paced
import pytest
from controllers_world import Stage, workload
from real_sandbox import RealSandbox, eventually

from qwenkit.sandbox import process
from qwenkit.sandbox.controllers.names import template_hash

LABELS = {"app": "web"}


def test_a_failure_is_logged_more_and_more_seldom_until_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "qwenkit.sandbox.controllers")

    def said() -> list[str]:
        return [one.message for one in caplog.records if "Deployment default/web" in one.message]

    async def scene() -> None:
        stage = Stage()
        stage.store.create("Deployment", workload("Deployment", "web", LABELS, 0))
        template = stage.store.get("Deployment", "default", "web")["spec"]["template"]
        taken = f"web-{template_hash(template)}"
        stage.store.create("ReplicaSet", workload("ReplicaSet", taken, {"app": "theirs"}, 0))
        async with stage.running():
            await stage.eventually(lambda: len(said()) == 4)
            stage.store.delete("ReplicaSet", "default", taken)
            await stage.eventually(lambda: stage.store.find("ReplicaSet", "default", taken))
            await stage.eventually(lambda: "fine again" in said()[-1])
        start, why = "controller deployment: Deployment default/web", f'"{taken}" already exists'
        *failures, end = said()
        assert [line.split(":")[2].strip() for line in failures] == [
            "failed",
            "failed 2 times",
            "failed 4 times",
            "failed 8 times",
        ]
        assert all(line.startswith(start) and line.endswith(why) for line in failures)
        assert end.startswith(f"{start}: fine again after ")

    paced.run(scene())


def test_a_detached_sandbox_has_it_in_its_log(tmp_path: Path) -> None:
    root = tmp_path / "root"

    def logged(line: str) -> None:
        eventually(lambda: re.search(line, (root / "log").read_text(), re.M))

    kubectl = RealSandbox(root).kubectl
    process.up(root)
    try:
        kubectl("create", "-f", "-", stdin=workload("Deployment", "web", LABELS, 0))
        kubectl("wait", "deployment/web", "--for=condition=Available", "--timeout=50s")
        taken = kubectl("get", "replicasets", "-o", "name").strip().rpartition("/")[2]
        kubectl("delete", "deployment", "web")
        kubectl("wait", "--for=delete", f"replicaset/{taken}", "--timeout=50s")
        kubectl("create", "-f", "-", stdin=workload("ReplicaSet", taken, {"app": "theirs"}, 0))
        kubectl("create", "-f", "-", stdin=workload("Deployment", "web", LABELS, 0))
        about = "qwenkit.sandbox.controllers: controller deployment: Deployment default/web"
        logged(rf'^\d{{4}}-\S+ \S+ WARNING {about}: failed: .* "{taken}" already exists$')
        kubectl("delete", "replicaset", taken)
        logged(rf"^\d{{4}}-\S+ \S+ INFO {about}: fine again after \d+ failures$")
    finally:
        process.down(root)
