"""An HTML page in the language of the person who reads it."""

from __future__ import annotations

import re
from html import escape, unescape

from qwenkit.language import ENGLISH, language, said

# What is not prose stays; the rest is what stands between two tags.
_PARTS = re.compile(r"<(style|script|pre|code|svg)\b.*?</\1>|(?<=>)[^<>]+(?=<)", re.DOTALL)


def said_page(page: str) -> str:
    """Return a page whose texts are in the person's language, and that says so."""
    if language() == ENGLISH:
        return page

    def part(found: re.Match[str]) -> str:
        text = found[0]
        if text.startswith("<") or not text.strip():
            return text
        return escape(said(" ".join(unescape(text).split())), quote=False)

    return _PARTS.sub(part, page).replace('<html lang="en">', '<html lang="zh-CN">', 1)
