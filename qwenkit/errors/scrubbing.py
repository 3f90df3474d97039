"""Hide secrets in text: every value that this process knows, in each form that it takes.

Other libraries quote what they were given: a header in its ``repr``, a URL with its signature.
Every text of theirs passes here before it is raised, shown, logged or saved.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "***"
# The variables of the environment that hold a secret.
SECRET_VARIABLES = (
    "OSS_ACCESS_KEY_SECRET",
    "OSS_SESSION_TOKEN",
    "OPENAI_API_KEY",
    "HF_TOKEN",
    "MODELSCOPE_API_TOKEN",
)
# A shorter value, such as "none" or "test", is no secret and would be found everywhere.
_SHORTEST = 8
_PATTERNS = (
    # What authorizes a request, whoever knows it.
    (re.compile(r"(?i)\b(bearer|basic) (?=\S*\d)[^\s'\"\\,;]{6,}"), r"\1 " + HIDDEN),
    (
        re.compile(
            r"(?i)\b((?:x-\w+-)?(?:signature|security-token)|(?<=[?&])(?:access_token|auth_key|token|sig))"
            r"=[^&\s'\"\\,;<>]+"
        ),
        r"\1=" + HIDDEN,
    ),
    (re.compile(r"(SignatureProvided['\"]?[>:] ?['\"]?)[^<'\",]+"), r"\1" + HIDDEN),
    (re.compile(r"\b(OSS [\w.-]+:)[\w+/=]{20,}"), r"\1" + HIDDEN),
    (re.compile(r"(://[^/\s:@'\"]*:)[^/\s@'\"]+@"), r"\1" + HIDDEN + "@"),
)
_remembered: set[str] = set()


def remember(*secrets: str) -> None:
    """Add values that are hidden from now on, such as a kubeconfig's token."""
    _remembered.update(filter(None, secrets))


def scrub(text: str) -> str:
    """Return a text with every known secret, and what looks like one, replaced by ``***``."""
    for form in _known():
        text = text.replace(form, HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def scrubbed(value: Any) -> Any:
    """Return a value with the texts in it scrubbed, in lists and mappings too."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, bytes):
        return scrub(value.decode("latin-1")).encode("latin-1")
    if isinstance(value, dict):
        return {scrubbed(key): scrubbed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [scrubbed(item) for item in value]
    return tuple(map(scrubbed, value)) if type(value) is tuple else value


def holds_secret(data: bytes) -> bool:
    """Return whether a file's content holds a known secret in any form."""
    text = data.decode("utf-8", "replace")
    return any(form in text for form in _known())


def scrub_chain(error: BaseException | None) -> None:
    """Scrub another library's exception in place, with all that led to it."""
    seen: set[int] = set()
    rest = [error]
    while rest:
        one = rest.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        rest += [one.__cause__, one.__context__]
        rest += [arg for arg in one.args if isinstance(arg, BaseException)]
        if isinstance(one, BaseExceptionGroup):
            rest += one.exceptions
        if (args := scrubbed(one.args)) != one.args:
            one.args = args
        shown = dict(vars(one))
        if isinstance(one, OSError):  # what it shows is in neither of them
            shown |= {"strerror": one.strerror, "filename": one.filename}
        for name, value in shown.items():
            if isinstance(value, BaseException):
                rest.append(value)
            elif isinstance(value, str | bytes | list | dict) and scrubbed(value) != value:
                setattr(one, name, scrubbed(value))


def _known() -> tuple[str, ...]:
    """Return every form of every known secret; the environment may change at any time."""
    found = {os.environ.get(name, "") for name in SECRET_VARIABLES} | _remembered
    # Each line of a PEM key is a secret too.
    parts = {part.strip() for value in found for part in (value, *value.splitlines())}
    forms = {form for part in parts if len(part) >= _SHORTEST for form in _forms(part)}
    # The longest first: one secret may begin with another.
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


@lru_cache(1000)
def _forms(secret: str) -> frozenset[str]:
    data = secret.encode("utf-8", "surrogateescape")
    plain = {
        secret,
        data.decode("latin-1"),
        repr(secret)[1:-1],
        repr(data)[2:-1],
        json.dumps(secret)[1:-1],
        html.escape(secret),
        secret.replace("'", "'\"'\"'"),  # in a shell
    }
    plain |= {form.replace("'", "\\'") for form in plain}
    plain |= {form.replace("\\", "\\\\") for form in plain} | {json.dumps(f)[1:-1] for f in plain}
    plain |= {form.replace("'", "\\'") for form in plain}  # of what was doubled, too
    quoted = {form for safe in ("", "/") for form in (quote(data, safe), quote_plus(data, safe))}
    quoted |= {re.sub("%..", lambda found: found[0].lower(), form) for form in quoted}
    encoded = {form for shift in range(3) for form in _base64(data, shift)}
    return frozenset(plain | quoted | {quote(form, "") for form in encoded} | encoded)


def _base64(data: bytes, shift: int) -> Iterable[str]:
    """Return the characters of base64 that ``data`` alone decides, ``shift`` bytes into a text."""
    first, last = -(-shift * 8 // 6), (shift + len(data)) * 8 // 6
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(bytes(shift) + data).decode()[first:last]
