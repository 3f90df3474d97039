"""Weights from Hugging Face: listing and files by its HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

from qwenkit.weights.hub.answers import ListingAnswers
from qwenkit.weights.hub.http_stream import HubSession
from qwenkit.weights.hub.listing import ByteReader, Listing, Source, SourceFile, listed, shown


class HuggingFace:
    """One model repository, read at the commit of the revision when it was listed."""

    def __init__(self, source: Source, *, endpoint: str) -> None:
        self.source = source
        self._http = HubSession(endpoint, source.kind)
        self._commit = source.revision

    def listing(self) -> Listing:
        """List all files of the revision; sha256 is known for LFS files only."""
        name = self.source.describe()
        answers = ListingAnswers(self._http, self.source)
        self._commit = self._resolve(answers)
        return Listing(name, self._commit, listed(name, self._files(answers)))

    def open(self, file: SourceFile, offset: int = 0) -> AbstractContextManager[ByteReader]:
        """Stream a file; LFS files come by a redirect to a CDN."""
        return self._http.stream(self._path(file.path), {}, file, offset)

    def read_json(self, path: str, within_s: float) -> Any:
        """Return a small JSON file of the revision."""
        return self._http.small_json(self._path(path), {}, path, within_s)

    def _path(self, path: str) -> str:
        return f"/{self.source.name}/resolve/{quote(self._commit, safe='')}/{quote(path)}"

    def _resolve(self, answers: ListingAnswers) -> str:
        path = f"/api/models/{self.source.name}/revision/{quote(self.source.revision, safe='')}"
        body, _ = answers.get(path, {})
        return answers.commit(body.get("sha") if isinstance(body, dict) else None)

    def _files(self, answers: ListingAnswers) -> Iterator[SourceFile]:
        path = f"/api/models/{self.source.name}/tree/{quote(self._commit, safe='')}?recursive=true"
        seen = set()
        while path:
            seen.add(path)
            found, path = answers.get(path, {})
            for entry in answers.entries(found):
                if answers.text(entry, "type") == "file":
                    large = entry.get("lfs") or {}
                    if not isinstance(large, dict):
                        answers.refuse(f"an entry whose lfs is {shown(large)}", "an object")
                    size = large.get("size", entry.get("size"))
                    yield answers.file(answers.text(entry, "path"), size, large.get("oid"))
            if path in seen:
                answers.refuse(
                    "a page that leads back to one before it", "a page with another next"
                )
