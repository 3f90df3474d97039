"""Check the links of a built site: each leads to a page of it, and nothing is fetched elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself when it opens a page.
_FETCHED = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "srcset")}


class _Page(HTMLParser):
    """The links of a page and the places in it that a link can name."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, bool]] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif value and name in ("href", "src", "srcset"):
                canonical = ("rel", "canonical") in attrs
                self.links.append((value, (tag, name) in _FETCHED and not canonical))


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text("utf-8"))
    return page


def wrong(site: Path) -> list[str]:
    """Return the wrong links of all pages, with the page that each is on."""
    own = (path for path in site.rglob("*.html") if "lite" not in path.relative_to(site).parts[:1])
    return [f"{path.relative_to(site)}: {to}" for path in sorted(own) for to in _wrong_on(path)]


def _wrong_on(path: Path) -> Iterator[str]:
    for to, fetched in _read(path).links:
        link = urlsplit(to)
        if link.scheme or link.netloc:
            if fetched and link.scheme != "data":
                yield f"{to} is fetched from elsewhere"
            continue
        target = (path.parent / unquote(link.path)).resolve() if link.path else path.resolve()
        if not target.is_file():
            yield to
        elif target.suffix == ".html" and link.fragment:
            known = _read(target).anchors
            yield from [to] * (unquote(link.fragment) not in known)
