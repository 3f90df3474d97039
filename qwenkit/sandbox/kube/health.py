"""What the server tells without a token: that it is well, and its version."""

from __future__ import annotations

from collections.abc import Mapping

_CHECKS = ("ping", "log", "etcd", "informer-sync")
_ENDPOINTS = frozenset({"healthz", "livez", "readyz"})


def is_open(path: str) -> bool:
    """Whether anybody may read this path, as ``system:public-info-viewer`` allows."""
    return path == "version" or path in _ENDPOINTS


def is_health(path: str) -> bool:
    """Whether this is a health endpoint, or one check of it."""
    endpoint, _, check = path.partition("/")
    return endpoint in _ENDPOINTS and (not check or check in _CHECKS)


def report(path: str, query: Mapping[str, str]) -> str:
    """Return the text of a health endpoint: ``ok``, or every check with ``?verbose``."""
    if "verbose" not in query:
        return "ok"
    endpoint, _, check = path.partition("/")
    lines = [f"[+]{one} ok" for one in _CHECKS if check in ("", one)]
    return "\n".join([*lines, f"{endpoint} check passed", ""])
