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
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as changed
from functools import partial
from hashlib import sha256
from pathlib import Path

from qwenkit.errors import Conflict, Forbidden, NotFound, Rejected, TransferError
from qwenkit.parameters.layers import run_id
from qwenkit.weights.hub.listing import (
    MANIFEST_NAME,
    Listing,
    Repository,
    SourceFile,
    content_revision,
)
from qwenkit.weights.hub.source_stream import SourceStream
from qwenkit.weights.integrity import check_tensors, tensor_problems
from qwenkit.weights.oss.manifest import Manifest, StoredFile, dump, parse
from qwenkit.weights.oss.object_upload import UploadedObject
from qwenkit.weights.parts import crc64
from qwenkit.weights.prefix import refused
from qwenkit.weights.progress import Meter, Progress, format_bytes
from qwenkit.weights.report import Action, FileProblem, UploadReport, VerifyReport
from qwenkit.weights.retry import Stop
from qwenkit.weights.selection import EVERYTHING, Selection
from qwenkit.weights.transfer import Transfer, TransferOptions

_PARTS = ".qwenkit"
_BUFFER = 4 << 20
_HEADROOM = 16 << 20  # bytes that stay free: file systems refuse before they are quite full
_VERIFYING = 4


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
    opts, stop = options or TransferOptions(), Stop(timeout_s)
    return _Copy(source, run, replace, versioned, selection, progress, opts, stop, folder).run()


def verify(folder: Path) -> VerifyReport:
    """Read every file of a folder and compare it with the manifest: size, CRC-64, tensors, index.

    Raises:
        NotFound: no upload completed there.
        Conflict: ``qwenkit.json`` is not ours.
    """
    manifest = _read_manifest(folder)
    if manifest is None:
        why = f"{MANIFEST_NAME} is written last and is not there"
        raise NotFound(f"{folder} holds no complete upload", why, "run the upload; it resumes")
    with ThreadPoolExecutor(_VERIFYING) as pool:
        problems = [found for found in pool.map(partial(_problem, folder), manifest.files) if found]
    broken = {problem.file for problem in problems}
    sound = [file for file in manifest.files if file.path not in broken]
    problems += tensor_problems(partial(_read, folder), sound, known=manifest.files)
    stored = _files(folder)
    listed = {MANIFEST_NAME, *(file.path for file in manifest.files)}
    return VerifyReport(
        str(folder),
        str(folder),
        manifest.source,
        manifest.revision,
        len(manifest.files),
        manifest.bytes,
        tuple(sorted(problems, key=lambda problem: problem.file)),
        tuple(f"{folder}/{path}" for path in stored if path not in listed),
        str(manifest.selection),
        tuple((f"{folder}/{path}", size) for path, size in stored.items()),
    )


class _OtherBytes(TransferError):
    """The sha256 is not the one that the hub lists."""


@dataclass
class _Copy(Transfer):
    """One call of ``upload``."""

    folder: Path

    def _run(self) -> UploadReport:
        started = time.monotonic()
        listing = self._listing()
        if self.versioned:
            listing = self._with_revision(listing)
            self.folder = self.folder / listing.revision
        known: dict[str, StoredFile] = {}
        if previous := _read_manifest(self.folder):
            listing = self._with_revision(listing)
            self._check(previous, listing)
            known = {file.path: file for file in previous.files}
        self._check_room(listing)
        with _writing(self.folder):
            (self.folder / _PARTS).mkdir(parents=True, exist_ok=True)
            if previous and not _holds(previous, listing):
                (self.folder / MANIFEST_NAME).unlink()
        meter = Meter(len(listing.files), listing.size)
        done = self._each(
            lambda file: self._file(file, known.get(file.path), meter), listing, meter
        )
        files = tuple(one.stored for one in done)
        revision = listing.revision or content_revision(map(StoredFile.as_listed, files))
        id_ = previous.run_id if previous and previous.revision == revision else run_id()
        manifest = Manifest(listing.source, revision, self.label, files, self.selection, id_)
        self._finish(manifest, previous)
        seconds = time.monotonic() - started
        name = str(self.folder)
        return self._report(name, name, manifest, done, meter, seconds)

    def _check(self, previous: Manifest, listing: Listing) -> None:
        """Refuse to change complete weights: a server may have them open."""
        if not self.replace and not _holds(previous, listing):
            what = f"{self.folder} holds {previous.source}, revision {previous.revision[:12]}"
            why = f"{listing.source} is {listing.revision[:12]}, with {len(listing.files)} files"
            raise refused(what, why)

    def _check_room(self, listing: Listing) -> None:
        """Refuse a volume that is too small before anything is fetched."""
        there = next(one for one in (self.folder, *self.folder.parents) if one.is_dir())
        present = sum(size for path, size in _files(self.folder).items() if path != MANIFEST_NAME)
        present += sum(path.stat().st_size for path in (self.folder / _PARTS).glob("*"))
        wanted, free = max(0, listing.size - present) + _HEADROOM, shutil.disk_usage(there).free
        if wanted > free:
            raise Rejected(
                f"{self.folder} has no room for {format_bytes(wanted)}",
                f"{format_bytes(free)} are free",
                "--set storage_size=…, and another volume if its class cannot be expanded",
            )

    def _file(self, file: SourceFile, known: StoredFile | None, meter: Meter) -> UploadedObject:
        path = self.folder / file.path
        with meter.file(file.path), _writing(path):
            if kept := self._kept(file, path, known):
                meter.keep(file.path, file.size)
                return UploadedObject(kept, "skipped")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._fetch(file, path, meter)
            except _OtherBytes:
                if not meter.kept(file.path):
                    raise
                meter.restart(file.path)  # what an earlier upload left was wrong
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
        part, crc = self.folder / _PARTS / name, 0
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
            out.flush()
            os.fsync(out.fileno())
        if file.sha256 not in ("", stream.sha256):
            part.unlink()
            raise _OtherBytes(
                f"{file.path}: other bytes arrived than the hub lists",
                f"their sha256 is {stream.sha256[:16]}…, and not {file.sha256[:16]}…",
                "repeat the upload; if it persists, the file has changed since it was listed",
            )
        part.chmod(0o644)
        part.replace(path)
        stored = StoredFile(file.path, file.size, stream.sha256, crc, _stamp(path))
        action: Action = "resumed" if begun else "uploaded"
        return UploadedObject(stored, action)

    def _pieces(self, path: Path) -> Iterator[memoryview]:
        with path.open("rb") as data:
            while piece := data.read(_BUFFER):
                self.stop.check()
                yield memoryview(piece)

    def _finish(self, manifest: Manifest, previous: Manifest | None) -> None:
        with _writing(self.folder):
            shutil.rmtree(self.folder / _PARTS)
            old = {file.path for file in previous.files} if previous else set()
            for path in old - {file.path for file in manifest.files}:
                (self.folder / path).unlink(missing_ok=True)
            if previous and _same(previous, manifest):
                return
            check_tensors(partial(_read, self.folder), manifest.files, str(self.folder))
            new = self.folder / f"{_PARTS}.json"
            with new.open("wb") as out:
                out.write(dump(manifest))
                out.flush()
                os.fsync(out.fileno())
            new.replace(self.folder / MANIFEST_NAME)


def _read_manifest(folder: Path) -> Manifest | None:
    path = folder / MANIFEST_NAME
    try:
        return parse(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Rejected) as error:
        why = f"it cannot be read as a manifest: {getattr(error, 'what', error)}"[:200]
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
    if size != file.size:
        return FileProblem(file.path, f"has {size} bytes instead of {file.size}")
    if crc != file.crc64:
        return FileProblem(file.path, f"has CRC-64 {crc} instead of {file.crc64}")
    return None


def _holds(manifest: Manifest, listing: Listing) -> bool:
    paths = {file.path for file in listing.files}
    return manifest.revision == listing.revision and {f.path for f in manifest.files} == paths


def _same(one: Manifest, other: Manifest) -> bool:
    return (one.revision, one.files) == (other.revision, other.files)


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


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fix = f"let user {os.getuid()} write there"
            raise Forbidden(f"{path} cannot be written", why, fix) from error
        raise TransferError(f"{path} cannot be written", why, "repeat the upload") from error
