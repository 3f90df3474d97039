"""A sandbox in a process of its own, asked with kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from qwenkit.sandbox import state_files
from qwenkit.sandbox.kube.objects import Object

T = TypeVar("T")


@dataclass(frozen=True)
class RealSandbox:
    root: Path

    @property
    def state(self) -> state_files.SandboxState:
        return state_files.running(self.root)

    def run(self, *arguments: str, stdin: object = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl against the sandbox."""
        files = (f"--kubeconfig={self.root / 'kubeconfig'}", f"--cache-dir={self.root}.cache")
        return subprocess.run(
            ["kubectl", *files, *arguments],
            input=json.dumps(stdin),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def kubectl(self, *arguments: str, stdin: object = None) -> str:
        """Run kubectl, which must succeed; return what it prints."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *objects: Object) -> None:
        everything = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "--server-side", "-f", "-", stdin=everything)


def obj(kind: str, name: str, version: str = "v1", **more: object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}} | more


def eventually(what: Callable[[], T]) -> T:
    """Wait until something holds, a minute at most; return it."""
    deadline = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
