"""Weights from Hugging Face: listing and files by its HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

from qwenkit.errors import TransferError
from qwenkit.weights.hub.http_stream import HubSession, valid_entry
from qwenkit.weights.hub.listing import ByteReader, Listing, Source, SourceFile, listed


class HuggingFace:
    """One model repository, read at the commit of the revision when it was listed."""

    def __init__(self, source: Source, *, endpoint: str) -> None:
        self.source = source
        self._http = HubSession(endpoint, source.kind)
        self._commit = source.revision

    def listing(self) -> Listing:
        """List all files of the revision; sha256 is known for LFS files only."""
        name = self.source.describe()
        self._commit = self._resolve()
        return Listing(name, self._commit, listed(name, self._files()))

    def open(self, file: SourceFile, offset: int = 0) -> AbstractContextManager[ByteReader]:
        """Stream a file; LFS files come by a redirect to a CDN."""
        path = f"/{self.source.name}/resolve/{quote(self._commit, safe='')}/{quote(file.path)}"
        return self._http.stream(path, {}, file, offset)

    def _resolve(self) -> str:
        path = f"/api/models/{self.source.name}/revision/{quote(self.source.revision, safe='')}"
        body, _ = self._http.json(path, {}, self.source.describe())
        commit = body.get("sha") if isinstance(body, dict) else None
        if not isinstance(commit, str) or not commit:
            raise TransferError(f"{self.source.describe()}: the hub names no commit")
        return commit

    def _files(self) -> Iterator[SourceFile]:
        path = f"/api/models/{self.source.name}/tree/{quote(self._commit, safe='')}?recursive=true"
        while path:
            entries, path = self._http.json(path, {}, self.source.describe())
            if not isinstance(entries, list):
                raise TransferError(f"{self.source.describe()}: the hub's listing is not a list")
            yield from (self._file(entry) for entry in entries if entry.get("type") == "file")

    def _file(self, entry: dict[str, Any]) -> SourceFile:
        with valid_entry(self.source):
            large: dict[str, Any] = entry.get("lfs") or {}
            size = int(large.get("size", entry["size"]))
            return SourceFile(str(entry["path"]), size, str(large.get("oid", "")).lower())
