"""The health endpoints, and which paths may be read without a token."""

from __future__ import annotations

from collections.abc import Mapping

_CHECKS = ("ping", "log", "etcd", "informer-sync")
_ENDPOINTS = frozenset({"healthz", "livez", "readyz"})


def is_open(path: str) -> bool:
    """Return whether the path may be read without a token (``system:public-info-viewer``)."""
    return path == "version" or path in _ENDPOINTS


def is_health(path: str) -> bool:
    """Return whether this is a health endpoint, or one check of it."""
    endpoint, _, check = path.partition("/")
    return endpoint in _ENDPOINTS and (not check or check in _CHECKS)


def report(path: str, query: Mapping[str, str]) -> str:
    """Return the answer of a health endpoint: ``ok``, or each check with ``?verbose``."""
    if "verbose" not in query:
        return "ok"
    endpoint, _, check = path.partition("/")
    lines = [f"[+]{one} ok" for one in _CHECKS if check in ("", one)]
    return "\n".join([*lines, f"{endpoint} check passed", ""])
