"""How a gateway's URL is written."""

from __future__ import annotations

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
