"""Addresses: how a gateway's URL is written, and which ones no proxy may come before."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from qwenkit.errors import InvalidValue


def base_url(gateway: str) -> str:
    """Return a gateway's base URL, ``http://`` added if it has no scheme, no slash at the end.

    Raises:
        InvalidValue: it is not the URL of a host.
    """
    url = gateway if "//" in gateway else f"http://{gateway}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidValue(
            "gateway", gateway, "must be a URL such as http://47.1.2.3 or http://host:8080"
        )
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Tell whether a URL points at this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
