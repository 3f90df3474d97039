"""What a JupyterHub starts for a learner, and that both ways to run one give the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from places import ROOT

HUB = ROOT / "deploy" / "jupyterhub"
# Stands for the hub's server of one user: it says how it was started, and ends.
SINGLE_USER = """
import json, os, sys
told = {"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd()}
open(os.environ["TOLD"], "w").write(json.dumps(told))
"""


def test_a_learner_gets_notebooks_and_a_sandbox_that_ends_with_the_server(tmp_path: Path) -> None:
    package, bin_, home = (tmp_path / name for name in ("jupyterhub", "bin", "home"))
    for folder in (package, bin_, home):
        folder.mkdir()
    (package / "__init__.py").touch()
    (package / "singleuser.py").write_text(SINGLE_USER)
    command = bin_ / "qwenkit"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qwenkit "$@"\n')
    command.chmod(0o700)
    own = {
        "HOME": str(home),
        "COURSE": str(ROOT),
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "JUPYTERHUB_API_TOKEN": "a-token-of-the-tests",
        "TOLD": str(tmp_path / "told"),
    }
    done = subprocess.run(
        [HUB / "start"], env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told").read_text())
    assert f"--ServerApp.root_dir={home / 'notebooks'}" in told["argv"]
    assert "--ServerApp.jpserver_extensions=qwenkit.course.start_page=True" in told["argv"]
    assert "--MappingKernelManager.cull_idle_timeout=1800" in told["argv"]
    assert not [option for option in told["argv"] if "port" in option]  # the hub's own
    root = home / ".qwenkit" / "sandbox"
    assert told["env"]["KUBECONFIG"] == str(root / "kubeconfig")
    assert not root.exists()
    english = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert english <= {path.name for path in (home / "notebooks").iterdir()}


class Section(dict[str, Any]):
    """A section of JupyterHub's configuration, as ``c.Spawner.cmd = …`` fills it."""

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def test_both_ways_have_the_same_limits() -> None:
    names = ("JupyterHub", "Spawner", "SystemdSpawner")
    config = SimpleNamespace(**{name: Section() for name in names})
    file = HUB / "jupyterhub_config.py"
    exec(  # noqa: S102 - our own file, as JupyterHub runs it
        compile(file.read_text(), str(file), "exec"),
        {"get_config": lambda: config, "__file__": str(file)},
    )
    learner = yaml.safe_load((HUB / "values.yaml").read_text())["singleuser"]
    spawner = config.Spawner
    assert learner["memory"]["limit"] == spawner["mem_limit"]
    assert learner["cpu"]["limit"] == spawner["cpu_limit"]
    assert learner["defaultUrl"] == spawner["default_url"]
    assert f"/usr/local/bin/{learner['cmd'][0]}" in (HUB / "Dockerfile").read_text()
    assert learner["storage"]["homeMountPath"] in (HUB / "Dockerfile").read_text()
