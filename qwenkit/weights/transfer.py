"""Weights from a hub or a folder into a bucket: nothing staged, everything proven, resumable.

Memory for part data is ``part_size * (workers + files_at_once)``, whatever the size of the files:
each worker sends one buffer while each open file fills another. Only a file of more than 10,000
parts gets larger parts. Files of up to a MiB take their own size, ``small_files_at_once`` times.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from urllib.parse import urlsplit

import oss2

from qwenkit.errors import InvalidValue, QwenkitError, TransferError
from qwenkit.weights.checkpoint import Checkpoints, Saver
from qwenkit.weights.hub.listing import Listing, RemoteFile, Repository, content_revision
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.hub.source_stream import SourceStream, digest
from qwenkit.weights.integrity import check_listing
from qwenkit.weights.manifest import Manifest, StoredFile
from qwenkit.weights.oss.bucket import list_objects, list_uploads, object_url
from qwenkit.weights.oss.object_upload import ObjectUpload, Sent
from qwenkit.weights.parts import MIN_PART, SMALL, Buffers
from qwenkit.weights.prefix import Prefix, check_keys
from qwenkit.weights.progress import Meter, Progress
from qwenkit.weights.report import FileReport, UploadReport
from qwenkit.weights.retry import Backoff, Patience, Result, Stop, Stopped
from qwenkit.weights.selection import EVERYTHING, Selection
from qwenkit.weights.target import Lane

_RESUMES = "what arrived is kept: repeat the same upload and it goes on there"


@dataclass(frozen=True)
class TransferOptions:
    """How hard to push. Sizes are bytes.

    Raises:
        InvalidValue: a number that cannot work.
    """

    part_size: int = 16 << 20
    workers: int = 4
    files_at_once: int = 3
    small_files_at_once: int = 8
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        for name in ("part_size", "workers", "files_at_once", "small_files_at_once"):
            least = MIN_PART if name == "part_size" else 1
            if getattr(self, name) < least:
                raise InvalidValue(name, getattr(self, name), f"must be at least {least}")


def upload(
    source: str | Repository,
    bucket: oss2.Bucket,
    prefix: str,
    *,
    run: str,
    state_dir: Path,
    replace: bool = False,
    versioned: bool = False,
    selection: Selection = EVERYTHING,
    progress: Callable[[Progress], None] | None = None,
    options: TransferOptions | None = None,
    cancel: threading.Event | None = None,
) -> UploadReport:
    """Bring a source's files under ``prefix``; ``qwenkit.json`` is written when all are proven.

    Ended early by an error, ``cancel``, Ctrl-C or the power switch, it goes on where it was when
    it is called again, also from another machine.

    Args:
        source: an opened repository, or a source as the user writes it.
        bucket: from ``open_bucket``.
        prefix: the folder in the bucket.
        run: label of this run, on every object.
        state_dir: where checkpoints are kept.
        replace: overwrite another revision and objects that are not ours.
        versioned: upload to ``<prefix>/<revision>``.
        selection: which of the source's files; all by default.
        progress: called about four times a second, from this thread.
        options: sizes and numbers.
        cancel: set it from another thread to end early.

    Raises:
        Conflict: the prefix holds another revision or selection, or somebody else's objects, or
            another process of this machine uploads to it.
        InvalidValue: the prefix is no folder, or the selection matches nothing.
        Rejected: the source is no complete set of weights.
        TransferError: bytes did not arrive as they were sent, or ``cancel`` was set.
        Unreachable: hub or bucket stopped answering.
    """
    repository = open_source(source) if isinstance(source, str) else source
    stop = Stop(cancel)
    job = _Job(repository, bucket, run, selection, options or TransferOptions(), stop, progress)
    try:
        return job.run(prefix.strip("/"), replace=replace, versioned=versioned, state_dir=state_dir)
    except Stopped:
        raise TransferError(
            f"upload to {object_url(bucket, prefix)} was cancelled", fix=_RESUMES
        ) from None


class _Job:
    """One call of ``upload``."""

    def __init__(
        self,
        repository: Repository,
        bucket: oss2.Bucket,
        run: str,
        selection: Selection,
        options: TransferOptions,
        stop: Stop,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._repository, self._bucket = repository, bucket
        self._label, self._selection = run, selection
        self._options, self._stop, self._progress = options, stop, progress
        self._started = time.monotonic()

    def run(self, name: str, *, replace: bool, versioned: bool, state_dir: Path) -> UploadReport:
        """Check the source, upload, prove, write the manifest."""
        listing = self._listing()
        if versioned:
            listing = self._with_revision(listing)
            name = f"{name}/{listing.revision}"
        check_keys(name, listing)
        prefix = Prefix(self._bucket, name)
        if prefix.before:
            listing = self._with_revision(listing)
            prefix.check(listing, replace=replace)
        checkpoints = Checkpoints(state_dir, _target(self._bucket, name))
        with checkpoints.exclusive():
            prefix.open(listing)
            meter = Meter(len(listing.files), listing.size)
            with self._lane(prefix, replace, checkpoints, meter) as lane:
                sent = self._each(lambda file: ObjectUpload(lane, file).run(), listing, meter)
            manifest = self._manifest(listing, sent)
            prefix.finish(manifest)
        return self._report(prefix, manifest, sent, meter)

    def _listing(self) -> Listing:
        whole = self._repository.listing()
        listing = self._selection.of(whole)
        wanted = {file.path for file in listing.files}
        check_listing(self._repository, listing, {f.path for f in whole.files} - wanted)
        return listing

    def _with_revision(self, listing: Listing) -> Listing:
        """Hash a folder before the upload: its revision decides where, or whether, to upload."""
        if listing.revision:
            return listing
        meter = Meter(len(listing.files), listing.size)
        files = tuple(self._each(lambda file: self._hashed(file, meter), listing, meter))
        return changed(listing, files=files, revision=content_revision(files))

    def _hashed(self, file: RemoteFile, meter: Meter) -> RemoteFile:
        what = f"hashing {file.path}"
        meter.start_file(what)
        patience = Patience(self._options.backoff, self._stop)
        buffer = memoryview(bytearray(min(file.size, SMALL)))
        with SourceStream(self._repository, file, patience) as stream:
            sha256, _ = digest(stream, file.size, buffer, meter.send)
        meter.finish_file(what)
        return changed(file, sha256=sha256)

    @contextmanager
    def _lane(
        self, prefix: Prefix, replace: bool, checkpoints: Checkpoints, meter: Meter
    ) -> Iterator[Lane]:
        options, folder = self._options, f"{prefix.name}/"
        before = prefix.before.files if prefix.before else ()
        with (
            closing(Saver(checkpoints)) as saver,
            ThreadPoolExecutor(options.workers, "qwenkit-send") as senders,
        ):
            yield Lane(
                bucket=self._bucket,
                repository=self._repository,
                prefix=prefix.name,
                run=self._label,
                replace=replace,
                part_size=options.part_size,
                patience=Patience(options.backoff, self._stop, meter.retry),
                meter=meter,
                buffers=Buffers(options.workers + options.files_at_once),
                senders=senders,
                checkpoints=checkpoints,
                saver=saver,
                present={found.key: found for found in list_objects(self._bucket, folder)},
                uploads=list_uploads(self._bucket, folder),
                ours={f"{folder}{file.path}": file for file in before},
            )

    def _each(
        self, work: Callable[[RemoteFile], Result], listing: Listing, meter: Meter
    ) -> list[Result]:
        """Do something to every file, several at once; the first failure, or Ctrl-C, ends all."""
        options = self._options
        with (
            ThreadPoolExecutor(options.files_at_once, "qwenkit-read") as large,
            ThreadPoolExecutor(options.small_files_at_once, "qwenkit-small") as small,
        ):
            try:
                # Large files first, so that the end is not one file alone.
                order = sorted(listing.files, key=lambda file: -file.size)
                futures = {
                    file.path: (small if file.size <= SMALL else large).submit(work, file)
                    for file in order
                }
                self._watch(futures.values(), meter)
            except BaseException as error:
                self._stop.set()
                for pool in (large, small):
                    pool.shutdown(wait=False, cancel_futures=True)
                _say_how_to_go_on(error)
                raise
        return [futures[file.path].result() for file in listing.files]

    def _watch(self, futures: Collection[Future[Result]], meter: Meter) -> None:
        """Wait for all files; raise the first real error."""
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.25)
            if self._progress:
                self._progress(meter.read())
            for future in done:
                future.result()
            self._stop.check()

    def _manifest(self, listing: Listing, sent: list[Sent]) -> Manifest:
        return Manifest(
            listing.source,
            listing.revision or content_revision(one.file for one in sent),
            self._label,
            tuple(
                StoredFile(s.file.path, s.file.size, s.file.sha256, s.crc64, s.etag) for s in sent
            ),
            self._selection,
        )

    def _report(
        self, prefix: Prefix, manifest: Manifest, sent: list[Sent], meter: Meter
    ) -> UploadReport:
        return UploadReport(
            url=prefix.url,
            source=manifest.source,
            revision=manifest.revision,
            prefix=prefix.name,
            files=tuple(
                FileReport(
                    f"{prefix.name}/{s.file.path}", s.file.size, s.file.sha256, s.crc64, s.action
                )
                for s in sent
            ),
            bytes_sent=meter.sent,
            bytes_skipped=meter.skipped,
            seconds=time.monotonic() - self._started,
            retries=meter.retries,
            selection=str(self._selection),
        )


def _say_how_to_go_on(error: BaseException) -> None:
    if isinstance(error, QwenkitError):
        error.fix = "; ".join(filter(None, (error.fix, _RESUMES)))
    elif isinstance(error, KeyboardInterrupt):
        error.add_note(_RESUMES)


def _target(bucket: oss2.Bucket, prefix: str) -> str:
    """Name a prefix; the public and the internal endpoint lead to the same one."""
    parts = urlsplit(bucket.endpoint)
    host = (parts.hostname or "").replace("-internal.aliyuncs.com", ".aliyuncs.com")
    port = f":{parts.port}" if parts.port else ""
    return f"{host}{port}/{bucket.bucket_name}/{prefix}"
