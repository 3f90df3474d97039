"""Weights from a folder: a finished download, or the user's own model."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qwenkit.errors import NotFound, Rejected, TransferError
from qwenkit.untrusted.files import read_text
from qwenkit.untrusted.parsing import parse_json
from qwenkit.weights.hub.listing import ByteReader, Listing, Source, SourceFile, listed

_UNFINISHED = re.compile(r"\._{5}temp|.*\.(incomplete|part|partial|crdownload|aria2|tmp)")
_LEFT_OUT = re.compile(
    r"\.(git|hg|svn|cache|huggingface|locks|ipynb_checkpoints|mdl|msc|mv|DS_Store|_.*|nfs.*)"
    rf"|__pycache__|__MACOSX|Thumbs\.db|desktop\.ini|lost\+found|.*\.(swp|pyc)|{_UNFINISHED.pattern}"
)
_log = logging.getLogger("qwenkit.weights")


class Folder:
    """Every file below a folder; links to files are followed.

    What programs leave beside weights is left out and named: ``.git``, ``.cache`` of Hugging
    Face, ``._____temp`` of ModelScope, parts of downloads.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.root = Path(source.name).expanduser()
        if not self.root.is_dir():
            raise NotFound(
                f"folder {source.name} does not exist",
                "a source that names no hub is a folder of this machine",
                "name a folder, modelscope:owner/name or hf:owner/name",
            )

    def listing(self) -> Listing:
        """List paths and sizes; the upload hashes the files while it reads them."""
        files = (
            SourceFile(path.relative_to(self.root).as_posix(), self._stat(path).st_size)
            for path in self._paths()
        )
        return Listing(self.source.describe(), "", listed(self.source.describe(), files))

    @contextmanager
    def open(self, file: SourceFile, offset: int = 0) -> Iterator[ByteReader]:
        """Stream a file; raise if it changes meanwhile."""
        path = self.root / file.path
        before = self._stat(path)
        if before.st_size != file.size:
            raise _changed(path)
        with path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            yield stream
        after = self._stat(path)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise _changed(path)

    def read_json(self, path: str, within_s: float) -> Any:
        """Return a JSON file of the folder."""
        try:
            return parse_json(read_text(self.root / path))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise NotFound(f"{self.root / path} cannot be read", why, "mend it") from None

    def _paths(self) -> Iterator[Path]:
        for folder, names, files in os.walk(self.root):
            for name in filter(_LEFT_OUT.fullmatch, (*names, *files)):
                began = _UNFINISHED.fullmatch(name)
                why = "of a download that did not end" if began else "no part of a model"
                _log.warning("%s is %s, and is left out", Path(folder, name), why)
            files = [name for name in files if not _LEFT_OUT.fullmatch(name)]
            names[:] = sorted(name for name in names if not _LEFT_OUT.fullmatch(name))
            for name in names:
                if (linked := Path(folder, name)).is_symlink():
                    _log.warning("%s is a link to a folder and is left out", linked)
            yield from (Path(folder, name) for name in files)

    def _stat(self, path: Path) -> os.stat_result:
        try:
            status = path.stat()
        except OSError as error:
            raise NotFound(
                f"{path} cannot be read",
                error.strerror or str(error),
                "mend it, or take it out of the folder",
            ) from error
        if not stat.S_ISREG(status.st_mode):
            why = "a FIFO, a socket or a device has no end, or none that is known"
            raise Rejected(f"{path} is not an ordinary file", why, "take it out of the folder")
        return status


def _changed(path: Path) -> TransferError:
    return TransferError(
        f"{path} changed while it was read",
        "its size or modification time has changed",
        "wait until the program that writes it is done, then upload again",
    )
