"""Transfer weights from a hub or a folder into a bucket: streamed, verified, resumable.

Nothing is staged on disk. Memory for part data is ``part_size * (workers + files_at_once)``,
whatever the size of the files: each worker sends one buffer while each open file fills another.
A file of more than 10,000 parts has larger ones, and so may an upload that another program began
(up to 128 MiB). Files of up to a MiB take their own size, ``small_files_at_once`` times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import oss2

from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.parameters.layers import run_id
from qwenkit.weights.checkpoint import Checkpoints
from qwenkit.weights.hub.listing import Listing, Repository, SourceFile, content_revision
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.hub.source_stream import SourceStream, digest
from qwenkit.weights.integrity import check_listing
from qwenkit.weights.oss.announcement import Announcement
from qwenkit.weights.oss.bucket import list_objects, list_uploads, object_url
from qwenkit.weights.oss.manifest import Manifest, StoredFile
from qwenkit.weights.oss.object_upload import ObjectUpload, UploadedObject
from qwenkit.weights.oss.upload_context import UploadContext
from qwenkit.weights.parts import MIN_PART, SMALL, Buffers
from qwenkit.weights.prefix import Prefix, check_keys
from qwenkit.weights.progress import Meter, Progress
from qwenkit.weights.report import RESUMES, UploadReport, pickles
from qwenkit.weights.retry import Result, RetryPolicy, Stop
from qwenkit.weights.selection import EVERYTHING, Selection


@dataclass(frozen=True)
class TransferOptions:
    """Sizes in bytes, and how many threads and attempts.

    Raises:
        InvalidValue: a number is too small.
    """

    part_size: int = 16 << 20
    workers: int = 4
    files_at_once: int = 3
    small_files_at_once: int = 8
    retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(attempts=12))

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
    timeout_s: float = math.inf,
) -> UploadReport:
    """Upload a source's files under ``prefix``; ``qwenkit.json`` is written last.

    An upload that ended early (an error, Ctrl-C, a power failure) resumes when it is called again,
    also from another machine.

    Args:
        source: an opened repository, or the path of a folder.
        bucket: from ``open_bucket``.
        prefix: the prefix in the bucket.
        run: label of this run, on every object.
        state_dir: where checkpoints are kept; it becomes private to this user.
        replace: overwrite another revision and objects that are not ours.
        versioned: upload to ``<prefix>/<revision>``.
        selection: which of the source's files; all by default.
        progress: called about four times a second, from this thread.
        options: sizes and numbers of threads.
        timeout_s: the time that the whole may take.

    Raises:
        Conflict: the prefix holds another revision or selection, or objects that are not ours, or
            another process of this machine uploads to it.
        InvalidValue: the prefix is not a folder, or the selection matches nothing.
        Rejected: the source is not a complete set of weights.
        TransferError: the bytes that arrived are not the expected ones.
        Unreachable: hub or bucket stopped answering.
        WaitTimeout: it took longer than ``timeout_s``.
    """
    opened = open_source(source) if isinstance(source, str) else source
    options, name, stop = options or TransferOptions(), prefix.strip("/"), Stop(timeout_s)
    given = (opened, name, run, replace, versioned, selection, progress, options, stop)
    return _Upload(*given, bucket, state_dir).run()


@dataclass
class Transfer:
    """The files of a source on their way to the folder ``name``; a subclass knows how."""

    repository: Repository
    name: str
    label: str
    replace: bool
    versioned: bool
    selection: Selection
    progress: Callable[[Progress], None] | None
    options: TransferOptions
    stop: Stop

    def run(self) -> UploadReport:
        """Check the source, upload, verify, write the manifest."""
        started = time.monotonic()
        with self.stop.active():
            listing = self._listing()
            meter = Meter(len(listing.files), listing.size)
            manifest, done = self._store(listing, meter)
        return UploadReport(
            url=self._url(),
            source=manifest.source,
            revision=manifest.revision,
            prefix=self.name,
            files=tuple(one.report(self.name) for one in done),
            bytes_sent=meter.sent,
            bytes_skipped=meter.skipped,
            seconds=time.monotonic() - started,
            retries=meter.retries,
            selection=str(self.selection),
            notes=pickles(manifest.paths),
        )

    def _url(self) -> str:
        return self.name

    def _store(self, listing: Listing, meter: Meter) -> tuple[Manifest, list[UploadedObject]]:
        """Store the files, and the manifest at the end."""
        raise NotImplementedError

    def _listing(self) -> Listing:
        whole = self.repository.listing()
        listing = self.selection.of(whole)
        wanted = {file.path for file in listing.files}
        check_listing(self.repository, listing, {f.path for f in whole.files} - wanted)
        if self.versioned:
            listing = self._with_revision(listing)
            self.name = f"{self.name}/{listing.revision}"
        return listing

    def _manifest(
        self, listing: Listing, done: list[UploadedObject], previous: Manifest | None
    ) -> Manifest:
        """Return the new manifest; one that is mended stays that of the earlier upload's run."""
        files = tuple(one.stored for one in done)
        revision = listing.revision or content_revision(map(StoredFile.as_listed, files))
        mended = previous and previous.revision == revision
        id_ = previous.run_id if previous and mended else run_id()
        return Manifest(listing.source, revision, self.label, files, self.selection, id_)

    def _with_revision(self, listing: Listing) -> Listing:
        """Hash a folder before the upload, if its revision decides where or whether to upload."""
        if listing.revision:
            return listing
        meter = Meter(len(listing.files), listing.size)
        files = tuple(self._each(lambda file: self._hashed(file, meter), listing, meter))
        return changed(listing, files=files, revision=content_revision(files))

    def _hashed(self, file: SourceFile, meter: Meter) -> SourceFile:
        what = f"hashing {file.path}"
        policy = changed(self.options.retries, stop=self.stop)
        buffer = memoryview(bytearray(min(file.size, SMALL)))
        with meter.file(what), SourceStream(self.repository, file, policy) as stream:
            sha256, _ = digest(stream, file.size, buffer, partial(meter.send, what))
        return changed(file, sha256=sha256)

    def _each(
        self, work: Callable[[SourceFile], Result], listing: Listing, meter: Meter
    ) -> list[Result]:
        """Do the work for every file, several at once; the first failure or Ctrl-C ends all."""
        options, begin = self.options, self.stop.activate
        with (
            ThreadPoolExecutor(options.files_at_once, "qwenkit-read", begin) as large,
            ThreadPoolExecutor(options.small_files_at_once, "qwenkit-small", begin) as small,
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
                self.stop.set()
                for pool in (large, small):
                    pool.shutdown(wait=False, cancel_futures=True)
                _add_resume_hint(error)
                raise
        return [futures[file.path].result() for file in listing.files]

    def _watch(self, futures: Collection[Future[Result]], meter: Meter) -> None:
        """Wait for all files; raise the first real error."""
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.25)
            if self.progress:
                self.progress(meter.read())
            for future in done:
                future.result()
            self.stop.check()


@dataclass
class _Upload(Transfer):
    """One call of ``upload``."""

    bucket: oss2.Bucket
    state_dir: Path

    def _url(self) -> str:
        return object_url(self.bucket, self.name)

    def _store(self, listing: Listing, meter: Meter) -> tuple[Manifest, list[UploadedObject]]:
        check_keys(self.name, listing)
        prefix = Prefix(self.bucket, self.name)
        prefix.check_folders(listing)
        if prefix.previous or prefix.damaged:
            listing = self._with_revision(listing)
            prefix.check(listing, replace=self.replace)
        checkpoints = Checkpoints(self.state_dir, _address(self.bucket, self.name))
        senders = ThreadPoolExecutor(self.options.workers, "qwenkit-send", self.stop.activate)
        with checkpoints.exclusive(), senders:
            prefix.open(listing, replace=self.replace)
            context = self._context(prefix, listing, checkpoints, senders, meter)
            done = self._each(lambda file: ObjectUpload(context, file).run(), listing, meter)
            manifest = self._manifest(listing, done, prefix.previous)
            if prefix.damaged:  # nobody knows any more whose it was
                manifest = changed(manifest, run_id="")
            prefix.finish(manifest)
            context.announcement.close()
        return manifest, done

    def _context(
        self,
        prefix: Prefix,
        listing: Listing,
        checkpoints: Checkpoints,
        senders: ThreadPoolExecutor,
        meter: Meter,
    ) -> UploadContext:
        options, folder = self.options, f"{prefix.name}/"
        previous = prefix.previous.files if prefix.previous else ()
        present = {found.key: found for found in list_objects(self.bucket, folder)}
        uploads = list_uploads(self.bucket, folder)
        keys = [f"{folder}{file.path}" for file in listing.files if file.size > options.part_size]
        return UploadContext(
            bucket=self.bucket,
            repository=self.repository,
            prefix=prefix.name,
            run=self.label,
            replace=self.replace,
            part_size=options.part_size,
            policy=changed(options.retries, stop=self.stop, on_retry=meter.retry),
            meter=meter,
            buffers=Buffers(options.workers + options.files_at_once),
            senders=senders,
            checkpoints=checkpoints,
            announcement=Announcement(self.bucket, prefix.name, self.label, keys, uploads, present),
            present=present,
            uploads=uploads,
            ours={f"{folder}{file.path}": file for file in previous},
        )


def _add_resume_hint(error: BaseException) -> None:
    if isinstance(error, QwenkitError):
        error.fix = "; ".join(filter(None, (error.fix, RESUMES)))
    elif isinstance(error, KeyboardInterrupt):
        error.add_note(RESUMES)


def _address(bucket: oss2.Bucket, prefix: str) -> str:
    """Return one address for a prefix, by the public and by the internal endpoint."""
    parts = urlsplit(bucket.endpoint)
    host = (parts.hostname or "").replace("-internal.aliyuncs.com", ".aliyuncs.com")
    port = f":{parts.port}" if parts.port else ""
    return f"{host}{port}/{bucket.bucket_name}/{prefix}"
