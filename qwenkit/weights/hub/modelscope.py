"""Weights from ModelScope by its HTTP API; its SDK can only write to disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from qwenkit.errors import NotFound, TransferError
from qwenkit.weights.hub.answers import DEPTH, ListingAnswers
from qwenkit.weights.hub.http_stream import HubSession
from qwenkit.weights.hub.listing import (
    ByteReader,
    Listing,
    Source,
    SourceFile,
    check_path,
    content_revision,
    listed,
    shown,
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
        answers = ListingAnswers(self._http, self.source)
        files = listed(name, self._walk(answers, "", DEPTH))
        return Listing(name, content_revision(files), files)

    def open(self, file: SourceFile, offset: int = 0) -> AbstractContextManager[ByteReader]:
        """Stream a file; large ones come by a redirect to object storage."""
        params = {"Revision": self.source.revision, "FilePath": file.path}
        return self._http.stream(self._path, params, file, offset)

    def read_json(self, path: str, within_s: float) -> Any:
        """Return a small JSON file of the revision."""
        params = {"Revision": self.source.revision, "FilePath": path}
        return self._http.small_json(self._path, params, path, within_s)

    def _walk(self, answers: ListingAnswers, root: str, depth: int) -> Iterator[SourceFile]:
        entries = self._entries(answers, root, recursive=True)
        if len(entries) < _TRUNCATED_AT:
            yield from (_file(answers, entry) for entry in entries if entry.get("Type") != "tree")
            return
        if not depth:
            answers.refuse(f"folder {shown(root)}", f"at most {DEPTH} folders deep")
        entries = self._entries(answers, root, recursive=False)
        if len(entries) >= _TRUNCATED_AT:
            raise TransferError(
                f"{self.source.describe()}: folder {shown(root or '/')} has too many entries",
                f"the hub cuts listings at {_TRUNCATED_AT} without an error",
                "download the repository with git and upload the folder",
            )
        for entry in entries:
            if entry.get("Type") == "tree":
                folder = answers.text(entry, "Path", "Name")
                check_path(folder, self.source.describe())
                if not folder.startswith(f"{root}/" if root else "") or folder == root:
                    answers.refuse(f"a folder {shown(folder)} in {shown(root)}", "one below it")
                yield from self._walk(answers, folder, depth - 1)
            else:
                yield _file(answers, entry)

    def _entries(
        self, answers: ListingAnswers, root: str, *, recursive: bool
    ) -> list[dict[str, Any]]:
        params = {"Revision": self.source.revision, "Recursive": str(recursive)}
        if root:
            params["Root"] = root
        body, _ = answers.get(f"{self._path}/files", params)
        data = body.get("Data") if isinstance(body, dict) else None
        if isinstance(body, dict) and body.get("Success") is False:
            why = f"{self._http.endpoint} says: {shown(body.get('Message'))}"
            fix = "check owner, name and revision"
            raise NotFound(f"{self.source.describe()}: the hub does not have it", why, fix)
        return answers.entries(data.get("Files") if isinstance(data, dict) else data)


def _file(answers: ListingAnswers, entry: dict[str, Any]) -> SourceFile:
    path = answers.text(entry, "Path", "Name")
    return answers.file(path, entry.get("Size"), entry.get("Sha256"))
