"""ModelScope: listing and files by its HTTP API, without its SDK (which only writes to disk)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from qwenkit.errors import NotFound, TransferError
from qwenkit.weights.hub.http_stream import HubSession
from qwenkit.weights.hub.listing import (
    Listing,
    Reader,
    RemoteFile,
    Source,
    content_revision,
    listed,
)

# The hub cuts a listing here without a word: a list this long may be incomplete.
_TRUNCATED_AT = 3000


class ModelScope:
    """One model repository. Its revisions are branch names, so the listing's hash stands in."""

    def __init__(self, source: Source, *, endpoint: str) -> None:
        self.source = source
        token = os.environ.get("MODELSCOPE_API_TOKEN", "")
        self._http = HubSession(endpoint, token=token, token_variable="MODELSCOPE_API_TOKEN")
        self._path = f"/api/v1/models/{source.name}/repo"

    def listing(self) -> Listing:
        """List all files of the revision."""
        name = self.source.describe()
        files = listed(name, self._walk(""))
        return Listing(name, content_revision(files), files)

    def open(self, file: RemoteFile, offset: int = 0) -> AbstractContextManager[Reader]:
        """Stream a file; large ones come by a redirect to object storage."""
        params = {"Revision": self.source.revision, "FilePath": file.path}
        return self._http.stream(self._path, params, file, offset)

    def _walk(self, root: str) -> Iterator[RemoteFile]:
        entries = self._entries(root, recursive=True)
        if len(entries) < _TRUNCATED_AT:
            yield from (self._file(entry) for entry in entries if entry.get("Type") != "tree")
            return
        entries = self._entries(root, recursive=False)
        if len(entries) >= _TRUNCATED_AT:
            raise TransferError(
                f"{self.source.describe()}: folder {root or '/'} has too many entries",
                f"the hub cuts listings at {_TRUNCATED_AT} without saying so",
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
            said = str(body.get("Message", ""))
            raise NotFound(f"{self.source.describe()}: the hub does not have it", said)
        files = data.get("Files") if isinstance(data, dict) else data
        if not isinstance(files, list):
            raise TransferError(f"{self.source.describe()}: the hub's listing has no files")
        return files

    def _file(self, entry: dict[str, Any]) -> RemoteFile:
        try:
            path = str(entry.get("Path") or entry["Name"])
            return RemoteFile(path, int(entry["Size"]), str(entry.get("Sha256") or "").lower())
        except (KeyError, TypeError, ValueError) as error:
            raise TransferError(
                f"{self.source.describe()}: a listed file has no path or size", str(error)
            ) from error
