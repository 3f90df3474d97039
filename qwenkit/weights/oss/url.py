"""Places in OSS as ``oss://bucket/prefix``."""

from __future__ import annotations

from qwenkit.errors import SettingsError

_SCHEME = "oss://"


def oss_url(bucket: str, key: str) -> str:
    """Return the URL of an object or a folder."""
    return f"{_SCHEME}{bucket}/{key}"


def parse_url(url: str) -> tuple[str, str]:
    """Split the URL of a folder into bucket and prefix.

    Raises:
        SettingsError: it has another form.
    """
    bucket, _, prefix = url.removeprefix(_SCHEME).partition("/")
    if not url.startswith(_SCHEME) or not bucket or not prefix.strip("/"):
        raise SettingsError("target", url, "must be oss://bucket/prefix")
    return bucket, prefix.strip("/")
