"""What the API server refuses in a container's ``resources``: names, amounts, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.admission.field_errors import Errors, broken, invalid, required
from qwenkit.admission.schema import names, quantities

_STANDARD = ("cpu", "memory", "ephemeral-storage")


def resource_errors(resources: Mapping[str, Any], path: str) -> Errors:
    """Check limits and requests, and that no request exceeds its limit."""
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for name, amount in sorted(limits.items()):
        yield from _amount(name, amount, f"{path}.limits[{name}]")
    # A request defaults to the limit.
    for name, amount in sorted({**limits, **requests}.items()):
        if name in requests:
            yield from _amount(name, amount, f"{path}.requests[{name}]")
        yield from _within_limit(name, amount, limits, path)


def _amount(name: str, amount: str, path: str) -> Errors:
    yield from broken(path, name, _name_rules(name))
    number, amount = quantities.parse(amount), quantities.canonical(amount)
    if number < 0:
        yield invalid(path, amount, "must be greater than or equal to 0")
    # Amounts are counted in thousandths, rounded up.
    if _is_extended(name) and -(-number * 1000 // 1) % 1000:
        yield invalid(path, amount, "must be an integer")


def _name_rules(name: str) -> list[str]:
    rules = names.qualified_name(name)
    if not rules and "/" not in name and not _is_standard(name):
        return [
            "must be a standard resource type or fully qualified",
            "must be a standard resource for containers",
        ]
    if not rules and name.startswith("requests."):
        return ["doesn't follow extended resource name standard"]
    return rules


def _within_limit(name: str, amount: str, limits: Mapping[str, str], path: str) -> Errors:
    exact = _is_extended(name) or name.startswith("hugepages-")
    if name not in limits:
        if exact:
            rule = "Limit must be set for non overcommitable resources"
            yield required(f"{path}.limits", rule)
        return
    number, limit = quantities.parse(amount), quantities.parse(limits[name])
    relation = "equal to" if exact else "less than or equal to"
    if number != limit if exact else number > limit:
        rule = f"must be {relation} {name} limit of {quantities.canonical(limits[name])}"
        yield invalid(f"{path}.requests", quantities.canonical(amount), rule)


def _is_standard(name: str) -> bool:
    return name in _STANDARD or name.startswith("hugepages-")


def _is_extended(name: str) -> bool:
    native = "/" not in name or "kubernetes.io/" in name
    return not native and not name.startswith("requests.")
