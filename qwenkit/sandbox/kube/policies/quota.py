"""ResourceQuota: what an object takes of it, and when it is used up.

Usage is counted from the objects at each write, so it is never late; a real server's may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from qwenkit.admission.schema import quantities
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, at

Amounts = dict[str, Fraction]
_COUNTED = ("ConfigMap", "PersistentVolumeClaim", "ResourceQuota", "Secret", "Service")
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
# A quota of one of these asks every container to state it.
_STATED = {*_COMPUTE, *(f"{side}.{one}" for side in ("requests", "limits") for one in _COMPUTE)}


def charged(kind: ResourceKind, obj: Object) -> Amounts:
    """Return what an object takes of any quota, by the names that quotas use."""
    taken = {f"count/{kind.resource}": Fraction(1)}
    if kind.name in _COUNTED:
        taken[kind.plural] = Fraction(1)
    if kind.name == "PersistentVolumeClaim":
        asked = at(obj, "spec", "resources", "requests", "storage") or "0"
        taken["requests.storage"] = quantities.parse(asked)
    elif kind.name == "Service" and (way := at(obj, "spec", "type")) in (
        "LoadBalancer",
        "NodePort",
    ):
        taken[f"services.{way.lower()}s"] = Fraction(1)
    elif kind.name == "Pod" and at(obj, "status", "phase") not in ("Succeeded", "Failed"):
        taken["pods"] = Fraction(1)
        for container in obj["spec"]["containers"]:
            for name, amount in _of_container(container).items():
                taken[name] = taken.get(name, Fraction(0)) + amount
    return taken


def exceeded(
    kind: ResourceKind,
    obj: Object,
    old: Object | None,
    quotas: Sequence[Object],
    existing: Iterable[Object],
) -> str:
    """Return why the first quota that forbids an object does so, in the API server's words, or "".

    ``existing`` are the objects of its kind in the namespace, with ``old``, which it replaces.
    """
    quotas = sorted(quotas, key=lambda one: str(one["metadata"]["name"]))
    for quota in quotas if kind.name == "Pod" else ():
        if unstated := _unstated(obj, at(quota, "spec", "hard") or {}):
            return f"failed quota: {quota['metadata']['name']}: must specify {unstated}"
    before, existing = charged(kind, old) if old else {}, list(existing)
    more = {name: amount - before.get(name, 0) for name, amount in charged(kind, obj).items()}
    for quota in quotas:
        hard = {k: quantities.parse(v) for k, v in (at(quota, "spec", "hard") or {}).items()}
        used = used_of(kind, existing, hard)
        over = sorted(k for k, most in hard.items() if 0 < more.get(k, 0) > most - used[k])
        if over:
            parts = {"requested": more, "used": used, "limited": hard}
            texts = [f"{word}: {_shown(amounts, over)}" for word, amounts in parts.items()]
            return f"exceeded quota: {quota['metadata']['name']}, {', '.join(texts)}"
    return ""


def used_of(kind: ResourceKind, objects: Iterable[Object], names: Iterable[str]) -> Amounts:
    """Return how much of the named resources the objects of a kind take together."""
    used = dict.fromkeys(names, Fraction(0))
    for obj in objects:
        for name, amount in charged(kind, obj).items():
            if name in used:
                used[name] += amount
    return used


def printed(name: str, amount: Fraction) -> str:
    """Print an amount as the API server does: bytes in powers of 1024, the rest in thousands."""
    if name.endswith(("memory", "storage")) and amount and amount % 1024 == 0:
        return quantities.canonical(f"{int(amount) // 1024}Ki")
    return quantities.canonical(f"{-(-amount * 1000 // 1)}m")


def _of_container(container: Object) -> Amounts:
    """Return requests and limits by their names in quotas; others than _COMPUTE by requests."""
    asked, most = (at(container, "resources", side) or {} for side in ("requests", "limits"))
    taken = {f"requests.{name}": value for name, value in asked.items()}
    taken |= {name: asked[name] for name in _COMPUTE if name in asked}
    taken |= {f"limits.{name}": most[name] for name in _COMPUTE if name in most}
    return {name: quantities.parse(value) for name, value in taken.items()}


def _unstated(pod: Object, hard: Mapping[str, object]) -> str:
    """Return what the quota asks of containers that do not state it, or nothing."""
    missing: dict[str, list[str]] = {}
    for container in pod["spec"]["containers"]:
        for name in _STATED & hard.keys() - _of_container(container).keys():
            missing.setdefault(name, []).append(container["name"])
    return "; ".join(f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing))


def _shown(amounts: Mapping[str, Fraction], names: Iterable[str]) -> str:
    return ",".join(f"{name}={printed(name, amounts[name])}" for name in names)
