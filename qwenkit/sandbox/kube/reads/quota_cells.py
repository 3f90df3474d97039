"""What ``kubectl get quota`` shows in a column: ``pods: 1/4, requests.nvidia.com/gpu: 0/1``."""

from __future__ import annotations

from qwenkit.sandbox.kube.objects import Object, at


def used(quota: Object, *, limits: bool = False) -> str:
    """Return used and hard of the limits of containers, or of all the rest."""
    hard, taken = (at(quota, "status", field) or {} for field in ("hard", "used"))
    names = [name for name in sorted(hard) if name.startswith("limits.") is limits]
    return ", ".join(f"{name}: {taken.get(name, 0)}/{hard[name]}" for name in names)
