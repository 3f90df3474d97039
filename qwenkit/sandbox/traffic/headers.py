"""The request headers that a container gets, and the answer headers that a client gets."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from multidict import CIMultiDict

_HOP_BY_HOP = {
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
# The gateway sends the revision to the activator; the proxies remove these headers.
_INNER = {"knative-serving-namespace", "knative-serving-revision"}
_OURS = "x-qwenkit-"
NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that an HTTP client adds by default, and a proxy must not."""


def to_container(headers: Mapping[str, str], client: str, *, proxied: bool) -> CIMultiDict[str]:
    """Return a request's headers as they arrive behind gateway, activator and queue-proxy."""
    kept = _end_to_end(headers)
    for name in _INNER:
        kept.popall(name, None)
    kept["X-Forwarded-For"] = ", ".join([*kept.getall("X-Forwarded-For", []), client])
    kept.setdefault("X-Forwarded-Proto", "http")
    kept.setdefault("X-Request-Id", str(uuid.uuid4()))
    kept.setdefault("Forwarded", _forwarded(kept))
    if proxied:
        kept["K-Proxy-Request"] = "activator"
    return kept


def to_client(
    headers: Mapping[str, str], *, pod: str, revision: str, clock: float
) -> CIMultiDict[str]:
    """Return an answer's headers as they leave the gateway: it adds who answered, how fast.

    A real gateway does not; ``clock`` is how many times faster the pod is than what it models.
    """
    kept = CIMultiDict(
        (name, value)
        for name, value in _end_to_end(headers).items()
        if not name.lower().startswith(_OURS)  # a container must not say who it is
    )
    told = {"pod": pod, "revision": revision, "clock": f"{clock:g}"}
    kept.update({_OURS + name: value for name, value in told.items()})
    return kept


def _forwarded(headers: Mapping[str, str]) -> str:
    first, *others = (node.strip() for node in headers["X-Forwarded-For"].split(","))
    parts = [f"for={_node(first)}"]
    if host := headers.get("X-Forwarded-Host"):
        parts.append(f"host={host}")
    parts.append(f"proto={headers['X-Forwarded-Proto']}")
    return ", ".join([";".join(parts), *(f"for={_node(node)}" for node in others)])


def _node(address: str) -> str:
    return f'"[{address}]"' if ":" in address else address


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    dropped = _HOP_BY_HOP | named
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in dropped
    )
