"""What the API server refuses in a container's ``resources``: names, amounts, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.admission.field_errors import Errors, broken, forbidden, invalid, required
from qwenkit.admission.schema import names, quantities

_STANDARD = ("cpu", "memory", "ephemeral-storage")
# What quotas count, besides: known to Kubernetes, but not for containers.
_COUNTED = {"configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "secrets"}
_COUNTED |= {"resourcequotas", "services", "services.loadbalancers", "services.nodeports"}
_QUOTA = {f"{side}.{name}" for side in ("limits", "requests") for name in _STANDARD}
_QUOTA |= {*_COUNTED, "storage", "requests.storage"}


def resource_errors(resources: Mapping[str, Any], path: str) -> Errors:
    """Check limits and requests, and that no request exceeds its limit."""
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for name, amount in sorted(limits.items()):
        yield from _amount(name, amount, f"{path}.limits[{name}]")
    for name, amount in sorted(requests.items()):
        yield from _amount(name, amount, f"{path}.requests[{name}]")
        yield from _within_limit(name, amount, limits, path)
    named = {*limits, *requests}
    if any(map(_is_huge, named)) and not named & {"cpu", "memory"}:
        yield forbidden(path, "HugePages require cpu or memory")


def _amount(name: str, amount: str, path: str) -> Errors:
    yield from broken(path, name, _name_rules(name))
    number, amount = quantities.parse(amount), quantities.canonical(amount)
    if number < 0:
        yield invalid(path, amount, "must be greater than or equal to 0")
    # Amounts are counted in thousandths, rounded up.
    if (_is_extended(name) or name in _COUNTED) and -(-number * 1000 // 1) % 1000:
        yield invalid(path, amount, "must be an integer")


def _name_rules(name: str) -> list[str]:
    rules = names.qualified_name(name)
    if "/" in name:
        wrong = not _is_native(name) and not _is_extended(name)
        return [*rules, "doesn't follow extended resource name standard"] if wrong else rules
    known = name in _QUOTA or name.startswith("requests.hugepages-")
    if name in _STANDARD or _is_huge(name):
        return rules
    if not rules and not known:
        rules = ["must be a standard resource type or fully qualified"]
    return [*rules, "must be a standard resource for containers"]


def _within_limit(name: str, amount: str, limits: Mapping[str, str], path: str) -> Errors:
    exact = not _is_native(name) or _is_huge(name)
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


def _is_huge(name: str) -> bool:
    return name.startswith("hugepages-")


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def _is_extended(name: str) -> bool:
    if _is_native(name) or name.startswith("requests."):
        return False
    return not names.qualified_name(f"requests.{name}")
