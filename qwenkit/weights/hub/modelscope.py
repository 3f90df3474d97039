"""Weights from ModelScope by its HTTP API; its SDK can only write to disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from qwenkit.errors import NotFound, TransferError
from qwenkit.weights.hub.http_stream import HubSession, valid_entry
from qwenkit.weights.hub.listing import (
    ByteReader,
    Listing,
    Source,
    SourceFile,
    content_revision,
    listed,
)

# The hub cuts listings at this length without an error: such a list may be incomplete.
_TRUNCATED_AT = 3000


class ModelScope:
    """One model repository. Its revisions are branches, so the listing's hash is the revision."""

    def __init__(self, source: Source, *, endpoint: str) -> None:
        self.source = source
        self._http = HubSession(endpoint, source.kind)
        self._path = f"/api/v1/models/{source.name}/repo"

    def listing(self) -> Listing:
        """List all files of the revision."""
        name = self.source.describe()
        files = listed(name, self._walk(""))
        return Listing(name, content_revision(files), files)

    def open(self, file: SourceFile, offset: int = 0) -> AbstractContextManager[ByteReader]:
        """Stream a file; large ones come by a redirect to object storage."""
        params = {"Revision": self.source.revision, "FilePath": file.path}
        return self._http.stream(self._path, params, file, offset)

    def _walk(self, root: str) -> Iterator[SourceFile]:
        entries = self._entries(root, recursive=True)
        if len(entries) < _TRUNCATED_AT:
            yield from (self._file(entry) for entry in entries if entry.get("Type") != "tree")
            return
        entries = self._entries(root, recursive=False)
        if len(entries) >= _TRUNCATED_AT:
            raise TransferError(
                f"{self.source.describe()}: folder {root or '/'} has too many entries",
                f"the hub cuts listings at {_TRUNCATED_AT} without an error",
                "download the repository with git and upload the folder",
            )
        for entry in entries:
            if entry.get("Type") == "tree":
                yield from self._walk(str(entry["Path"]))
            else:
                yield self._file(entry)

    def _entries(self, root: str, *, recursive: bool) -> list[dict[str, Any]]:
        params = {"Revision": self.source.revision, "Recursive": str(recursive)}
        if root:
            params["Root"] = root
        body, _ = self._http.json(f"{self._path}/files", params, self.source.describe())
        data = body.get("Data") if isinstance(body, dict) else None
        if isinstance(body, dict) and body.get("Success") is False:
            why = str(body.get("Message", ""))
            raise NotFound(f"{self.source.describe()}: the hub does not have it", why)
        files = data.get("Files") if isinstance(data, dict) else data
        if not isinstance(files, list):
            raise TransferError(f"{self.source.describe()}: the hub's listing has no files")
        return files

    def _file(self, entry: dict[str, Any]) -> SourceFile:
        with valid_entry(self.source):
            path = str(entry.get("Path") or entry["Name"])
            return SourceFile(path, int(entry["Size"]), str(entry.get("Sha256") or "").lower())
