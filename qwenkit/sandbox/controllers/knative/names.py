"""Names, labels and annotations that Knative gives to what it makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

SERVING = "serving.knative.dev"
CREATOR = f"{SERVING}/creator"
MODIFIER = f"{SERVING}/lastModifier"
SERVICE = f"{SERVING}/service"
SERVICE_UID = f"{SERVING}/serviceUID"
CONFIGURATION = f"{SERVING}/configuration"
CONFIGURATION_UID = f"{SERVING}/configurationUID"
CONFIGURATION_GENERATION = f"{SERVING}/configurationGeneration"
REVISION = f"{SERVING}/revision"
REVISION_UID = f"{SERVING}/revisionUID"
ROUTE = f"{SERVING}/route"
ROUTES = f"{SERVING}/routes"
ROUTING_STATE = f"{SERVING}/routingState"
ROUTING_STATE_MODIFIED = f"{SERVING}/routingStateModified"
ROLLOUT_DURATION = (f"{SERVING}/rollout-duration", f"{SERVING}/rolloutDuration")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
VISIBILITY = "networking.knative.dev/visibility"
CLUSTER_LOCAL = "cluster-local"
AUTOSCALING = "autoscaling.knative.dev"
_LONGEST = 63
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def child_name(parent: str, suffix: str) -> str:
    """Join two names; what would be too long is cut and hashed."""
    if len(parent) + len(suffix) <= _LONGEST:
        return parent + suffix
    digest = hashlib.md5(parent.encode(), usedforsecurity=False).hexdigest()
    return f"{parent[: _LONGEST - len(digest) - len(suffix)]}{digest}{suffix}"


def without(values: Mapping[str, str] | None, keys: Iterable[str]) -> dict[str, str]:
    """Return a copy without some keys."""
    dropped = set(keys)
    return {key: value for key, value in (values or {}).items() if key not in dropped}


def fnv32a(value: object) -> int:
    """Return the FNV-1a hash of a JSON value."""
    digest = 0x811C9DC5
    for byte in json.dumps(value, sort_keys=True).encode():
        digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
    return digest


def template_hash(template: object) -> str:
    """Return the hash that a ReplicaSet's name carries, in Kubernetes' alphabet."""
    return "".join(_LETTERS[int(digit) % len(_LETTERS)] for digit in str(fnv32a(template)))


def base36(number: int) -> str:
    """Print a number with the digits 0-9a-z."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"
