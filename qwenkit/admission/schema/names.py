"""Which names Kubernetes and registries accept: each check returns the broken rules."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_LABEL_1123 = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL_1123}(\.{_LABEL_1123})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_KEY_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character"
)
_REPOSITORY = re.compile(r"[a-z0-9_\-./]{2,255}")
_TAG = re.compile(r"[A-Za-z0-9_\-.]{1,128}")


def dns_1035_label(value: str, *, unit: str = "characters") -> list[str]:
    """Check a DNS-1035 label, at most 63 long, starting with a letter."""
    rule = (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with "
        "an alphabetic character, and end with an alphanumeric character"
    )
    return _too_long(value, 63, unit) + _mismatch(value, _LABEL_1035, rule, "my-name", "abc-123")


def dns_1123_label(value: str, *, unit: str = "characters") -> list[str]:
    """Check a DNS-1123 label, at most 63 long."""
    if not re.fullmatch(_LABEL_1123, value) and re.fullmatch(_SUBDOMAIN, value):
        return [*_too_long(value, 63, unit), "must not contain dots"]
    rule = (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
        "and must start and end with an alphanumeric character"
    )
    return _too_long(value, 63, unit) + _mismatch(value, _LABEL_1123, rule, "my-name", "123-abc")


def dns_1123_subdomain(value: str, *, unit: str = "characters") -> list[str]:
    """Check a DNS-1123 subdomain, at most 253 long."""
    rule = (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' "
        "or '.', and must start and end with an alphanumeric character"
    )
    return _too_long(value, 253, unit) + _mismatch(value, _SUBDOMAIN, rule, "example.com")


def as_prefix(value: str) -> str:
    """Return a ``generateName`` as Kubernetes masks it for its check."""
    return f"{value[:-2]}a" if len(value) > 1 and value.endswith("-") else value


def qualified_name(value: str) -> list[str]:
    """Check the key of a label, an annotation or a resource: ``[prefix/]name``."""
    *prefix, name = value.split("/")
    if len(prefix) > 1:
        example = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        wrong = _complaint(f"a valid label key {_KEY_RULE}", _KEY, "MyName", "my.name", "123-abc")
        return [wrong + example]
    found: list[str] = []
    if prefix:
        checks = dns_1123_subdomain(prefix[0], unit="bytes") if prefix[0] else ["must be non-empty"]
        found += [f"prefix part {check}" for check in checks]
    checks = _too_long(name, 63, "bytes") if name else ["must be non-empty"]
    checks += _mismatch(name, _KEY, _KEY_RULE, "MyName", "my.name", "123-abc")
    return found + [f"name part {check}" for check in checks]


def config_key(value: str) -> list[str]:
    """Check a key in the data of a ConfigMap or Secret, at most 253 long."""
    rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    found = _too_long(value, 253, "bytes")
    found += _mismatch(value, "[-._a-zA-Z0-9]+", rule, "key.name", "KEY_NAME", "key-name")
    if value in (".", ".."):
        return [*found, f"must not be '{value}'"]
    return [*found, "must not start with '..'"] if value.startswith("..") else found


def label_value(value: str) -> list[str]:
    """Check the value of a label, at most 63 long."""
    rule = (
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' "
        "or '.', and must start and end with an alphanumeric character"
    )
    examples = ("MyValue", "my_value", "12345")
    return _too_long(value, 63, "bytes") + _mismatch(value, f"({_KEY})?", rule, *examples)


def is_image(reference: str) -> bool:
    """Return whether ``reference`` is ``[registry/]repository[:tag][@sha256:digest]``."""
    if _is_tagged(reference):
        return True
    base, at, digest = reference.partition("@")
    if not at or not re.fullmatch("sha256:[a-f0-9]{64}", digest):
        return False
    return _is_tagged(base) or _is_repository(base)


def _is_tagged(reference: str) -> bool:
    base, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        return _is_repository(reference)
    return (not tag or _TAG.fullmatch(tag) is not None) and _is_repository(base)


def _is_repository(name: str) -> bool:
    registry, slash, repository = name.partition("/")
    if slash and ("." in registry or ":" in registry):
        return _REPOSITORY.fullmatch(repository) is not None and _is_authority(registry)
    return _REPOSITORY.fullmatch(name) is not None


def _is_authority(registry: str) -> bool:
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~!$&'()*+,;=-]*)(:\d*)?", registry):
        return False
    return urlsplit(f"//{registry}").netloc == registry


def _too_long(value: str, most: int, unit: str) -> list[str]:
    too_long = len(value.encode()) > most
    return [f"must be no more than {most} {unit}"] if too_long else []


def _mismatch(value: str, regex: str, rule: str, *examples: str) -> list[str]:
    return [] if re.fullmatch(regex, value) else [_complaint(rule, regex, *examples)]


def _complaint(rule: str, regex: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{rule} (e.g. {shown}regex used for validation is '{regex}')"
