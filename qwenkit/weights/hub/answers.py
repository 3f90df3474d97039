"""The answers that make up one listing of a hub, and the files in them, within limits.

Types are checked, not converted: a size of ``true`` or ``"12"`` is no size. A real listing is far
below every limit; one that is above has no end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from qwenkit.weights.hub.http_stream import HubSession
from qwenkit.weights.hub.listing import Source, SourceFile, shown

LISTING_BYTES = 64 << 20  # of all pages
LISTING_S = 300.0
PAGES = 500
ENTRIES = 100_000
DEPTH = 32  # of folders that are listed one by one
FILE_BYTES = 500 * 10**9  # no hub keeps larger files; parts of one have 50 MB
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_COMMIT = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


class ListingAnswers:
    """The requests for one listing; any answer that breaks a limit ends it with an error."""

    def __init__(self, http: HubSession, source: Source) -> None:
        self._http, self._what = http, source.describe()
        self._ends = time.monotonic() + LISTING_S
        self._pages = self._bytes = self._entries = 0

    def get(self, path: str, params: Mapping[str, str]) -> tuple[Any, str]:
        """Return one answer, and the path and query of the next page ("" on the last).

        Raises:
            TransferError: it is not JSON, or the listing has no end.
        """
        self._pages += 1
        if self._pages > PAGES:
            self.refuse(f"page {self._pages}", f"one of at most {PAGES} pages")
        body, following, size = self._http.json(path, params, self._what, ends=self._ends)
        self._bytes += size
        if self._bytes > LISTING_BYTES:
            self.refuse(f"{self._bytes} bytes with those before it", f"at most {LISTING_BYTES}")
        return body, following

    def refuse(self, value: str, rule: str) -> NoReturn:
        """Refuse the answer: what it is, and what it may be."""
        self._http.refuse(self._what, value, rule)

    def entries(self, found: object) -> list[dict[str, Any]]:
        """Return the entries of one page."""
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            self.refuse("a listing without a list of files", "a list of objects")
        self._entries += len(found)
        if self._entries > ENTRIES:
            self.refuse(f"{self._entries} entries with those before it", f"at most {ENTRIES}")
        return found

    def text(self, entry: Mapping[str, Any], *names: str) -> str:
        """Return the first of the fields that is there."""
        value = next((entry[name] for name in names if entry.get(name) is not None), None)
        if not isinstance(value, str):
            self.refuse(f"an entry whose {names[0]} is {shown(value)}", "a text")
        return value

    def file(self, path: str, size: object, sha256: object) -> SourceFile:
        """Return one file; ``sha256`` may be None or empty."""
        if type(size) is not int or not 0 <= size <= FILE_BYTES:
            rule = f"a whole number of bytes, from 0 to {FILE_BYTES}"
            self.refuse(f"a file {shown(path)} of size {shown(size)}", rule)
        stated = "" if sha256 is None else sha256
        if not isinstance(stated, str) or (stated and not _SHA256.fullmatch(stated.lower())):
            self.refuse(f"a file {shown(path)} of sha256 {shown(stated)}", "64 hexadecimal digits")
        return SourceFile(path, size, stated.lower())

    def commit(self, value: object) -> str:
        """Return the id of a commit."""
        if not isinstance(value, str) or not _COMMIT.fullmatch(value):
            self.refuse(f"a revision of commit {shown(value)}", "letters, digits, dots and dashes")
        return value
