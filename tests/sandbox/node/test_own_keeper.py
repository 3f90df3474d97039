"""What a pod may ask of ``qwenkit workshop keep``: one workshop, with its own account."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.kubelet.child import Programs
from qwenkit.sandbox.kubelet.own import keep


@pytest.mark.parametrize(
    "args",
    [
        *([], ["--name", "ws"], ["--name", "WS", "--context", "in-cluster"]),
        *(["--name", "ws", "--context", "sandbox"], ["--name", "", "--context", "in-cluster"]),
        *(["--once", "ws", "--context", "in-cluster"], ["--name", "a" * 40, "--context", "x"]),
        ["--name", "ws", "--context", "in-cluster", "--params", "/etc/passwd"],
    ],
)
def test_a_keeper_keeps_one_workshop_with_its_own_account(tmp_path: Path, args: list[str]) -> None:
    programs, asked = Programs(tmp_path), list[tuple[object, ...]]()
    programs.write_kubeconfig = lambda *given: asked.append(given)
    account, env = ("qwenkit-ws", "keeper"), {"PYTHONPATH": "/", "QWENKIT_GPU_RESOURCE": "x/gpu"}
    with pytest.raises(InvalidValue):
        keep.keep(args, env, account, programs, tmp_path)
    good = ["--name", "ws", "--context", "in-cluster"]
    found = keep.keep(good, env, account, programs, tmp_path)
    assert found.words == ["workshop", "keep", *good]
    assert asked == [(tmp_path / "kubeconfig", "in-cluster", *account)]
    assert found.env == {
        "QWENKIT_GPU_RESOURCE": "x/gpu",
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
    }
