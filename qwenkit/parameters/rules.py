"""The rules of text values; each returns the value or raises what is wrong with it."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable

from qwenkit.autoscaling.golang import parse_duration_s
from qwenkit.capacity.calibration.cards import with_path

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_OBJECT = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_BYTES = re.compile(r"[1-9][0-9]{0,9}(Ki|Mi|Gi|Ti|k|M|G|T)?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"(https?://)?[A-Za-z0-9_.-]+(?::([0-9]{1,5}))?/?")
_GO_DURATION = re.compile(r"([0-9]{1,9}(\.[0-9]{1,9})?(ns|us|µs|ms|s|m|h))+")
_LONGEST_LIFE_S = 366 * 24 * 3600
_MOST_LETTERS = 65_536


def path(value: str) -> str:
    """Of a path here: absolute if it exists, since notebooks run in a folder of their own."""
    return os.path.abspath(value) if value and os.path.exists(value) else value


def card(value: str) -> str:
    """Of a GPU: a measured card with its file's path, since notebooks run elsewhere."""
    return with_path(value)


def text(value: object) -> object:
    """Of every text: UTF-8 can hold it, and it is not too long."""
    if isinstance(value, str) and len(value) > _MOST_LETTERS:
        raise ValueError(f"must be at most {_MOST_LETTERS:,} characters")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("must be text that UTF-8 can hold")
    return value


def dns_1123(value: str) -> str:
    """Of most names in Kubernetes, and values of labels."""
    if not _DNS_1123.fullmatch(value):
        raise ValueError("must be a DNS-1123 label: a-z, 0-9 and -, at most 63, no - at the ends")
    return value


def dns_1035(value: str) -> str:
    """Of the names of Services."""
    if not _DNS_1035.fullmatch(value):
        raise ValueError(
            "must be a DNS-1035 label: starts with a letter, then a-z, 0-9 and -, at most 63"
        )
    return value


def bucket(value: str) -> str:
    """Of OSS buckets."""
    if value and not _BUCKET.fullmatch(value):
        raise ValueError("must be 3 to 63 of a-z, 0-9 and -, no - at the ends")
    return value


def folder(value: str) -> str:
    """Of a folder in a bucket; returned without slashes at the ends."""
    parts = value.strip("/").split("/")
    if not value.strip("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError("must be a folder inside the bucket, such as Qwen-7B-Chat-Int8")
    return value.strip("/")


def mount_path(value: str) -> str:
    """Of where a volume is mounted."""
    path = posixpath.normpath(value).replace("//", "/")
    if not path.startswith("/") or path in ("/", "/dev", "/dev/log") or ".." in value:
        raise ValueError("must be an absolute path other than /, /dev and /dev/log")
    return path


def address(value: str) -> str:
    """Of a host with an optional scheme and port; returned without a slash at the end."""
    found = _ADDRESS.fullmatch(value)
    if value and (found is None or int(found[2] or 0) > 65535):
        raise ValueError("must be a host with an optional http:// or https:// and port")
    return value.rstrip("/")


def duration(value: str | None) -> str | None:
    """Of a duration as Go writes it."""
    if value is not None and not _GO_DURATION.fullmatch(value):
        raise ValueError('must be a duration with a unit, such as "60s" or "1m30s"')
    return value


def lifetime(value: str) -> str:
    """Of a duration up to a year; empty for ever."""
    known = not value or _GO_DURATION.fullmatch(value)
    if not known or (value and not 0 < parse_duration_s(value) <= _LONGEST_LIFE_S):
        raise ValueError('must be a duration, at most a year, such as "8h" or "90m"')
    return value


def size(value: str) -> str:
    """Of a number of bytes as Kubernetes writes it; empty for none."""
    if value and not _BYTES.fullmatch(value):
        raise ValueError("must be a size such as 8Gi")
    return value


def object_name(value: str) -> str:
    """Of an object that exists already; empty for none."""
    if value and not _OBJECT.fullmatch(value):
        raise ValueError("must be the name of a Kubernetes object: a-z, 0-9, - and .")
    return value


def readable_by(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Of a text that ``parse`` can read."""

    def check(value: str) -> str:
        parse(value)
        return value

    return check


def name(value: str) -> str:
    """Of a host or a role; empty for none."""
    if not re.fullmatch(r"[A-Za-z0-9.-]*", value):
        raise ValueError("must be a plain name of a-z, A-Z, 0-9, - and .")
    return value
