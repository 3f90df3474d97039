"""Kubernetes quantities as exact numbers."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.kube.objects import Object, at

_SUFFIXES = {f"{letter}i": Decimal(1024) ** (i + 1) for i, letter in enumerate("KMGTPE")}
_SUFFIXES |= {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}


def parse(text: str | int | float) -> Decimal:
    """Return the value of a quantity such as ``100m``, ``64Gi``, ``1e3`` or ``2``.

    Raises:
        InvalidValue: it is not one.
    """
    given = str(text).strip()
    suffix = next((s for s in _SUFFIXES if given.endswith(s)), "")
    try:
        value = Decimal(given.removesuffix(suffix)) * _SUFFIXES.get(suffix, Decimal(1))
    except InvalidOperation:
        raise InvalidValue("quantity", text, "a number with a suffix such as m, Ki, Gi") from None
    if not value.is_finite():
        raise InvalidValue("quantity", text, "a finite number")
    return value


def total_requests(pod: Object) -> dict[str, Decimal]:
    """Return what a pod's containers request together, by resource."""
    total: dict[str, Decimal] = {}
    for container in at(pod, "spec", "containers") or []:
        resources = container.get("resources") or {}
        asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        for resource, text in asked.items():
            total[resource] = total.get(resource, Decimal(0)) + parse(text)
    return total


def summed(parts: Iterable[dict[str, Decimal]]) -> dict[str, Decimal]:
    """Add up amounts by resource."""
    total: dict[str, Decimal] = {}
    for part in parts:
        for resource, amount in part.items():
            total[resource] = total.get(resource, Decimal(0)) + amount
    return total
