"""A sandbox in a process of its own, asked with kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from qwenkit.sandbox import state_files
from qwenkit.sandbox.kube.objects import Object

T = TypeVar("T")
LIMITED = "limited"
_RBAC = "rbac.authorization.k8s.io"


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


def limited_kubeconfig(
    admin: Path, rules: Sequence[Mapping[str, object]], *, namespace: str = "default"
) -> Path:
    """Create a ServiceAccount with these PolicyRules, and return the kubeconfig with its token.

    Called again with other rules, it changes what the same user may do.
    """

    def kubectl(*arguments: str, stdin: object = None) -> str:
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={admin}", "-n", namespace, *arguments],
            input=json.dumps(stdin),
            env={"PATH": os.environ["PATH"], "HOME": str(admin.parent)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    ref = {"apiGroup": _RBAC, "kind": "Role", "name": LIMITED}
    subject = {"kind": "ServiceAccount", "name": LIMITED, "namespace": namespace}
    objects = [
        obj("ServiceAccount", LIMITED),
        obj("Role", LIMITED, f"{_RBAC}/v1", rules=list(rules)),
        obj("RoleBinding", LIMITED, f"{_RBAC}/v1", roleRef=ref, subjects=[subject]),
    ]
    everything = {"apiVersion": "v1", "kind": "List", "items": objects}
    kubectl("apply", "--server-side", "-f", "-", stdin=everything)
    config = json.loads(admin.read_text())
    config["users"][0]["user"] = {"token": kubectl("create", "token", LIMITED).strip()}
    config["contexts"][0]["context"]["namespace"] = namespace
    # Beside the sandbox's folder, which keeps nothing that is not its own.
    path = admin.parent.with_name(f"{admin.parent.name}-{namespace}-{LIMITED}.kubeconfig")
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
