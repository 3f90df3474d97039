"""Which names, labels and annotations does Knative give to what it creates?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from qwenkit.autoscaling import annotation_keys

SERVING = annotation_keys.SERVING
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
ROUTE_NAMESPACE = f"{SERVING}/routeNamespace"
ROUTES = f"{SERVING}/routes"
ROUTING_STATE = f"{SERVING}/routingState"
ROUTING_STATE_MODIFIED = f"{SERVING}/routingStateModified"
DEPLOYMENT_HASH = f"{SERVING}/deployment-hash"
NO_GC = f"{SERVING}/no-gc"
LAST_PINNED = f"{SERVING}/lastPinned"
ROLLOUT_DURATION = (f"{SERVING}/rollout-duration", f"{SERVING}/rolloutDuration")
PROGRESS_DEADLINE = (annotation_keys.PROGRESS_DEADLINE, f"{SERVING}/progressDeadline")
SIDECAR = f"queue.sidecar.{SERVING}/"
FULL_DUPLEX = "features.knative.dev/http-full-duplex"

NETWORKING, INTERNAL = "networking.knative.dev", "networking.internal.knative.dev"
VISIBILITY, CLUSTER_LOCAL = f"{NETWORKING}/visibility", "cluster-local"
INGRESS_CLASS, KOURIER = f"{NETWORKING}/ingress.class", f"kourier.ingress.{NETWORKING}"
ROLLOUT, TAG_TO_HOST = f"{INTERNAL}/rollout", f"{INTERNAL}/tag-to-host"
SERVERLESS_SERVICE, SERVICE_TYPE = f"{INTERNAL}/serverlessservice", f"{INTERNAL}/serviceType"

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# The alphabet of Kubernetes' generated names: no vowels, no look-alikes.
LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST = 63


def child_name(parent: str, suffix: str) -> str:
    """Join two names; a name that would be too long is cut and hashed."""
    if len(parent) + len(suffix) <= _LONGEST:
        return parent + suffix
    digest = hashlib.md5(parent.encode(), usedforsecurity=False).hexdigest()
    return f"{parent[: _LONGEST - len(digest) - len(suffix)]}{digest}{suffix}"


def without(values: Mapping[str, str] | None, keys: Iterable[str]) -> dict[str, str]:
    """Return a copy without some keys."""
    dropped = set(keys)
    return {key: value for key, value in (values or {}).items() if key not in dropped}


def first(values: Mapping[str, str], spellings: Iterable[str]) -> str:
    """Return the value of the first spelling of a key that is there, or ""."""
    return next((values[key] for key in spellings if key in values), "")


def fnv32a(value: object) -> int:
    """Return the FNV-1a hash of a JSON value."""
    digest = 0x811C9DC5
    for byte in json.dumps(value, sort_keys=True).encode():
        digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
    return digest


def template_hash(template: object) -> str:
    """Return the hash that a ReplicaSet's name carries, in Kubernetes' alphabet."""
    return "".join(LETTERS[int(digit) % len(LETTERS)] for digit in str(fnv32a(template)))
