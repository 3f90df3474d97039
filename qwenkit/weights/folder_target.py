"""Weights in a folder, such as a volume that a Job has mounted: streamed, verified, resumable.

A file gets its name when all its bytes are there and its sha256 is right; until then they lie in
``.qwenkit``, and a repeated upload goes on behind them. ``qwenkit.json`` is written last.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as changed
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from qwenkit.errors import Conflict, Forbidden, Rejected, TransferError
from qwenkit.weights.hub.listing import MANIFEST_NAME, Listing, Repository, SourceFile
from qwenkit.weights.hub.source_stream import SourceStream
from qwenkit.weights.integrity import check_tensors, compare, differs
from qwenkit.weights.oss.manifest import UNREADABLE, Manifest, StoredFile, dump, parse, unreadable
from qwenkit.weights.oss.object_upload import UploadedObject
from qwenkit.weights.parts import crc64
from qwenkit.weights.prefix import require_same
from qwenkit.weights.progress import Meter, Progress, format_bytes
from qwenkit.weights.report import FileProblem, UploadReport, VerifyReport
from qwenkit.weights.retry import Stop
from qwenkit.weights.selection import EVERYTHING, Selection
from qwenkit.weights.transfer import Transfer, TransferOptions

_PARTS = ".qwenkit"
_BUFFER = 4 << 20
_HEADROOM = 16 << 20  # bytes that stay free: file systems refuse before they are quite full
_LARGER = "--set storage_size=…, and another volume if its class cannot be expanded"


def upload(
    source: Repository,
    folder: Path,
    *,
    run: str,
    replace: bool = False,
    versioned: bool = False,
    selection: Selection = EVERYTHING,
    progress: Callable[[Progress], None] | None = None,
    options: TransferOptions | None = None,
    timeout_s: float = math.inf,
) -> UploadReport:
    """Copy a source's files into a folder; the arguments are those of ``transfer.upload``.

    Raises:
        Conflict: the folder holds another revision or selection, or a strange ``qwenkit.json``.
        Rejected: the source is not a complete set of weights, or the volume is too small.
        Forbidden: the folder may not be written.
        TransferError: the bytes that arrived are not the expected ones.
        Unreachable: the hub stopped answering.
        WaitTimeout: it took longer than ``timeout_s``.
    """
    opts, stop, name = options or TransferOptions(), Stop(timeout_s), str(folder)
    return _Copy(source, name, run, replace, versioned, selection, progress, opts, stop).run()


def verify(folder: Path, signer: str = "") -> VerifyReport:
    """Read every file of a folder and compare it with the manifest: size, CRC-64, tensors, index.

    Raises:
        NotFound: no upload completed there.
        Conflict: ``qwenkit.json`` is not ours.
    """
    stored, name = _files(folder), str(folder)
    check, read = partial(_problem, folder), partial(_read, folder)
    report = compare(_read_manifest(folder), name, name, check, read, stored, signer)
    return changed(report, stored=tuple((f"{name}/{path}", stored[path]) for path in stored))


@dataclass
class _Copy(Transfer):
    """One call of ``upload``."""

    @property
    def _folder(self) -> Path:
        return Path(self.name)

    def _store(self, listing: Listing, meter: Meter) -> tuple[Manifest, list[UploadedObject]]:
        known: dict[str, StoredFile] = {}
        if previous := _read_manifest(self._folder):
            listing = self._with_revision(listing)
            known = {file.path: file for file in previous.files}
            if not self.replace:
                require_same(self.name, previous, listing)
        self._check_room(listing)
        with _writing(self._folder):
            (self._folder / _PARTS).mkdir(parents=True, exist_ok=True)
            if previous and not previous.holds(listing):
                (self._folder / MANIFEST_NAME).unlink()
        done = self._each(
            lambda file: self._file(file, known.get(file.path), meter), listing, meter
        )
        manifest = self._manifest(listing, done, previous)
        self._finish(manifest, previous)
        return manifest, done

    def _check_room(self, listing: Listing) -> None:
        """Refuse a volume that is too small before anything is fetched."""
        folder = next(one for one in (self._folder, *self._folder.parents) if one.is_dir())
        there = _files(self._folder)
        present = sum(min(file.size, there.get(file.path, 0)) for file in listing.files)
        present += sum(path.stat().st_size for path in (self._folder / _PARTS).glob("*"))
        wanted = max(0, listing.size - present) + _HEADROOM
        if wanted > (free := shutil.disk_usage(folder).free):
            what = f"{self.name} has no room for {format_bytes(wanted)}"
            raise Rejected(what, f"{format_bytes(free)} are free", _LARGER)

    def _file(self, file: SourceFile, known: StoredFile | None, meter: Meter) -> UploadedObject:
        path = self._folder / file.path
        with meter.file(file.path), _writing(path):
            if kept := self._kept(file, path, known):
                meter.keep(file.path, file.size)
                return UploadedObject(kept, "skipped")
            path.parent.mkdir(parents=True, exist_ok=True)
            return self._fetch(file, path, meter)

    def _kept(self, file: SourceFile, path: Path, known: StoredFile | None) -> StoredFile | None:
        """Return the file if it is here already: unchanged since it was written, or by its hash."""
        if not path.is_file() or path.stat().st_size != file.size:
            return None
        if known and known.sha256 == (file.sha256 or known.sha256) and known.etag == _stamp(path):
            return known
        if not file.sha256:
            return None
        digest, crc = sha256(), 0
        for piece in self._pieces(path):
            digest.update(piece)
            crc = crc64(piece, crc)
        same = digest.hexdigest() == file.sha256
        return StoredFile(file.path, file.size, file.sha256, crc, _stamp(path)) if same else None

    def _fetch(self, file: SourceFile, path: Path, meter: Meter) -> UploadedObject:
        name = sha256(f"{file.path}\0{file.size}\0{file.sha256}".encode()).hexdigest()
        part, crc = self._folder / _PARTS / name, 0
        policy = changed(self.options.retries, stop=self.stop, on_retry=meter.retry)
        with SourceStream(self.repository, file, policy) as stream, part.open("ab") as out:
            begun = out.tell() if file.sha256 and out.tell() <= file.size else 0
            out.truncate(begun)  # without a hash, nobody could tell that both halves fit together
            for piece in self._pieces(part):
                stream.skip(piece)
                crc = crc64(piece, crc)
            meter.keep(file.path, begun)
            buffer = memoryview(bytearray(min(_BUFFER, file.size - begun)))
            for start in range(begun, file.size, _BUFFER):
                piece = buffer[: file.size - start]
                stream.fill(piece)
                out.write(piece)
                crc = crc64(piece, crc)
                meter.send(file.path, len(piece))
            _flush(out)
        if file.sha256 not in ("", stream.sha256):
            part.unlink()
            raise TransferError(
                f"{file.path}: other bytes arrived than the hub lists",
                f"their sha256 is {stream.sha256[:16]}…, and not {file.sha256[:16]}…",
                "repeat the upload; if it persists, the file has changed since it was listed",
            )
        part.chmod(0o644)
        part.replace(path)
        stored = StoredFile(file.path, file.size, stream.sha256, crc, _stamp(path))
        return UploadedObject(stored, "resumed" if begun else "uploaded")

    def _pieces(self, path: Path) -> Iterator[memoryview]:
        with path.open("rb") as data:
            while piece := data.read(_BUFFER):
                self.stop.check()
                yield memoryview(piece)

    def _finish(self, manifest: Manifest, previous: Manifest | None) -> None:
        with _writing(self._folder):
            shutil.rmtree(self._folder / _PARTS)
            for path in previous.paths - manifest.paths if previous else ():
                (self._folder / path).unlink(missing_ok=True)
            if previous and previous.equals(manifest):
                return
            check_tensors(partial(_read, self._folder), manifest.files, self.name)
            new = self._folder / f"{_PARTS}.json"
            with new.open("wb") as out:
                out.write(dump(manifest))
                _flush(out)
            new.replace(self._folder / MANIFEST_NAME)


def _read_manifest(folder: Path) -> Manifest | None:
    path = folder / MANIFEST_NAME
    try:
        return parse(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        why = f"it cannot be read as a manifest: {unreadable(error)}"
        raise Conflict(f"{path} was not written by qwenkit", why, "choose another folder") from None


def _problem(folder: Path, file: StoredFile) -> FileProblem | None:
    path, size, crc = folder / file.path, 0, 0
    try:
        with path.open("rb") as data:
            while piece := data.read(_BUFFER):
                crc, size = crc64(piece, crc), size + len(piece)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return FileProblem(file.path, "is missing" if missing else f"{error.strerror}")
    return differs(file, size, crc)


def _files(folder: Path) -> dict[str, int]:
    """Return the size of every file below a folder, without those that are not complete."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}
    return {path: size for path, size in sizes.items() if not path.startswith(f"{_PARTS}/")}


def _stamp(path: Path) -> str:
    """Return what changes when a file is written again; the manifest keeps it as the ETag."""
    return str(path.stat().st_mtime_ns)


def _read(folder: Path, path: str, start: int, count: int) -> bytes:
    with (folder / path).open("rb") as data:
        data.seek(start)
        return data.read(count)


def _flush(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fix = f"let user {os.getuid()} write there"
            raise Forbidden(f"{path} cannot be written", why, fix) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Rejected(f"{path} has no room", why, _LARGER) from error
        raise TransferError(f"{path} cannot be written", why, "repeat the upload") from error
