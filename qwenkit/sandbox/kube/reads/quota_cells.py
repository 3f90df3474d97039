"""What ``kubectl get quota`` shows in its columns: ``pods: 1/4, requests.nvidia.com/gpu: 0/1``."""

from __future__ import annotations

from collections.abc import Callable

from qwenkit.sandbox.kube.objects import Object, at


def requests(quota: Object) -> str:
    """Return used and hard of everything but the limits of containers."""
    return _used(quota, lambda name: not name.startswith("limits."))


def limits(quota: Object) -> str:
    """Return used and hard of the limits of containers."""
    return _used(quota, lambda name: name.startswith("limits."))


def _used(quota: Object, shown: Callable[[str], bool]) -> str:
    hard, used = (at(quota, "status", field) or {} for field in ("hard", "used"))
    return ", ".join(f"{one}: {used.get(one, 0)}/{hard[one]}" for one in sorted(hard) if shown(one))
