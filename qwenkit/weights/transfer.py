"""Weights from a hub or a folder into a bucket: nothing staged, everything proven, resumable.

Memory for part data is ``part_size * (workers + files_at_once)``, whatever the size of the files:
each worker sends one buffer while each open file fills another. Only a file of more than 10,000
parts gets larger parts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import oss2

from qwenkit.errors import Conflict, InvalidValue, QwenkitError, Rejected, TransferError
from qwenkit.weights.checkpoint import Checkpoints, Saver
from qwenkit.weights.hub import (
    MANIFEST_NAME,
    Listing,
    RemoteFile,
    Repository,
    content_revision,
    open_source,
)
from qwenkit.weights.integrity import check_listing, check_stored
from qwenkit.weights.manifest import Manifest, StoredFile, dump, manifest_key, read_manifest
from qwenkit.weights.object_upload import ObjectUpload, Sent
from qwenkit.weights.oss import abort_upload, delete_keys, list_objects, list_uploads, object_url
from qwenkit.weights.oss_errors import ask
from qwenkit.weights.parts import MIN_PART, Buffers, crc64
from qwenkit.weights.progress import Meter, Progress
from qwenkit.weights.report import FileReport, UploadReport
from qwenkit.weights.retry import Backoff, Patience, Stop, Stopped
from qwenkit.weights.source_stream import SourceStream, digest
from qwenkit.weights.target import Lane

_KEY_BYTES = 1023
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
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        for name, least in (("part_size", MIN_PART), ("workers", 1), ("files_at_once", 1)):
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
        progress: called about four times a second, from this thread.
        options: sizes and numbers.
        cancel: set it from another thread to end early.

    Raises:
        Conflict: the prefix holds another revision or somebody else's objects, or another
            process of this machine uploads to it.
        Rejected: the source is no complete set of weights.
        TransferError: bytes did not arrive as they were sent, or ``cancel`` was set.
        Unreachable: hub or bucket stopped answering.
    """
    repository = open_source(source) if isinstance(source, str) else source
    job = _Job(repository, bucket, run, replace, options or TransferOptions(), Stop(cancel))
    try:
        return job.run(prefix.strip("/"), versioned, state_dir, progress)
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
        replace: bool,
        options: TransferOptions,
        stop: Stop,
    ) -> None:
        self._repository, self._bucket = repository, bucket
        self._label, self._replace = run, replace
        self._options, self._stop = options, stop
        self._started = time.monotonic()

    def run(
        self,
        prefix: str,
        versioned: bool,
        state_dir: Path,
        progress: Callable[[Progress], None] | None,
    ) -> UploadReport:
        """Check the source, upload, prove, write the manifest."""
        listing = self._repository.listing()
        check_listing(self._repository, listing)
        if versioned:
            listing = self._with_revision(listing)
            prefix = f"{prefix}/{listing.revision}"
        _check_keys(prefix, listing)
        before = read_manifest(self._bucket, prefix)
        if before:
            listing = self._with_revision(listing)
            self._check_revision(before, listing, prefix)
        checkpoints = Checkpoints(state_dir, _target(self._bucket, prefix))
        with checkpoints.exclusive():
            if before and before.revision != listing.revision:
                # From here to the new manifest the prefix counts as incomplete.
                delete_keys(self._bucket, [manifest_key(prefix)])
            meter = Meter(len(listing.files), sum(file.size for file in listing.files))
            with self._lane(prefix, before, checkpoints, meter) as lane:
                sent = self._send(lane, listing.files, progress)
            manifest = self._manifest(listing, sent)
            self._finish(prefix, manifest, before, sent)
        return self._report(prefix, manifest, sent, meter)

    def _with_revision(self, listing: Listing) -> Listing:
        """Hash a folder before the upload: its revision decides where, or whether, to upload."""
        if listing.revision:
            return listing
        with ThreadPoolExecutor(self._options.files_at_once) as pool:
            files = tuple(pool.map(self._hashed, listing.files))
        return changed(listing, files=files, revision=content_revision(files))

    def _hashed(self, file: RemoteFile) -> RemoteFile:
        patience = Patience(self._options.backoff, self._stop)
        with SourceStream(self._repository, file, patience) as stream:
            sha256, _ = digest(stream, file.size, memoryview(bytearray(1 << 20)))
        return changed(file, sha256=sha256)

    def _check_revision(self, before: Manifest, listing: Listing, prefix: str) -> None:
        if before.revision != listing.revision and not self._replace:
            raise Conflict(
                f"{object_url(self._bucket, prefix)} holds {before.source}, "
                f"revision {before.revision[:12]}",
                f"{listing.source} is revision {listing.revision[:12]}; mounted readers cache, so "
                "files are not exchanged under them",
                "choose another prefix or --versioned; --replace if nothing mounts it",
            )

    @contextmanager
    def _lane(
        self, prefix: str, before: Manifest | None, checkpoints: Checkpoints, meter: Meter
    ) -> Iterator[Lane]:
        options = self._options
        with (
            closing(Saver(checkpoints)) as saver,
            ThreadPoolExecutor(options.workers, "qwenkit-send") as senders,
        ):
            yield Lane(
                bucket=self._bucket,
                repository=self._repository,
                prefix=prefix,
                run=self._label,
                replace=self._replace,
                part_size=options.part_size,
                patience=Patience(options.backoff, self._stop, meter.retry),
                meter=meter,
                buffers=Buffers(options.workers + options.files_at_once),
                senders=senders,
                checkpoints=checkpoints,
                saver=saver,
                present=frozenset(o.key for o in list_objects(self._bucket, f"{prefix}/")),
                uploads=list_uploads(self._bucket, f"{prefix}/"),
                ours={f"{prefix}/{f.path}": f for f in before.files} if before else {},
            )

    def _send(
        self,
        lane: Lane,
        files: Sequence[RemoteFile],
        progress: Callable[[Progress], None] | None,
    ) -> list[Sent]:
        # Large files first, so that the end is not one file alone.
        order = sorted(files, key=lambda file: -file.size)
        with ThreadPoolExecutor(self._options.files_at_once, "qwenkit-read") as readers:
            try:
                futures = [readers.submit(ObjectUpload(lane, file).run) for file in order]
                self._watch(futures, lane.meter, progress)
            except BaseException as error:
                self._stop.set()
                readers.shutdown(wait=True, cancel_futures=True)
                _say_how_to_go_on(error)
                raise
        return sorted((future.result() for future in futures), key=lambda one: one.file.path)

    def _watch(
        self,
        futures: list[Future[Sent]],
        meter: Meter,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        """Wait for all files; raise the first real error."""
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.25)
            if progress:
                progress(meter.read())
            for future in done:
                future.result()
            self._stop.check()

    def _manifest(self, listing: Listing, sent: list[Sent]) -> Manifest:
        return Manifest(
            listing.source,
            listing.revision or content_revision(one.file for one in sent),
            self._label,
            tuple(StoredFile(s.file.path, s.file.size, s.file.sha256, s.crc64) for s in sent),
        )

    def _finish(
        self, prefix: str, manifest: Manifest, before: Manifest | None, sent: list[Sent]
    ) -> None:
        """Clear away what is left over, look at the whole once more, and write the manifest."""
        paths = {file.path for file in manifest.files}
        self._abort_orphans(prefix, paths)
        stale = [f.path for f in before.files if f.path not in paths] if before else []
        delete_keys(self._bucket, [f"{prefix}/{path}" for path in stale])
        self._check_present(prefix, sent)
        check_stored(self._bucket, prefix, manifest.files)
        now = manifest.revision, manifest.files
        if before is None or (before.revision, before.files) != now:
            self._write(prefix, manifest)

    def _abort_orphans(self, prefix: str, paths: set[str]) -> None:
        for key, ids in list_uploads(self._bucket, f"{prefix}/").items():
            if key.removeprefix(f"{prefix}/") in paths:
                for upload_id in ids:
                    abort_upload(self._bucket, key, upload_id)

    def _check_present(self, prefix: str, sent: list[Sent]) -> None:
        """See that nobody changed an object after it was proven."""
        etags = {found.key: found.etag for found in list_objects(self._bucket, f"{prefix}/")}
        for one in sent:
            key = f"{prefix}/{one.file.path}"
            if etags.get(key) != one.etag:
                raise Conflict(
                    f"{object_url(self._bucket, key)} changed during the upload",
                    "another program writes to this prefix",
                    "end it, then repeat",
                )

    def _write(self, prefix: str, manifest: Manifest) -> None:
        body, key = dump(manifest), manifest_key(prefix)
        what = f"write {object_url(self._bucket, key)}"
        headers = {"Content-Type": "application/json"}
        answer = ask(self._bucket, what, partial(self._bucket.put_object, key, body, headers))
        if answer.crc != crc64(body):
            raise TransferError(f"{what}: the server holds other bytes than were sent")

    def _report(
        self, prefix: str, manifest: Manifest, sent: list[Sent], meter: Meter
    ) -> UploadReport:
        return UploadReport(
            url=object_url(self._bucket, prefix),
            source=manifest.source,
            revision=manifest.revision,
            prefix=prefix,
            files=tuple(
                FileReport(f"{prefix}/{s.file.path}", s.file.size, s.file.sha256, s.crc64, s.action)
                for s in sent
            ),
            bytes_sent=meter.sent,
            bytes_skipped=meter.skipped,
            seconds=time.monotonic() - self._started,
            retries=meter.retries,
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


def _check_keys(prefix: str, listing: Listing) -> None:
    if not prefix or prefix.startswith("\\"):
        raise InvalidValue("prefix", prefix, "must be a folder inside the bucket")
    for path in (*(file.path for file in listing.files), MANIFEST_NAME):
        if len(f"{prefix}/{path}".encode()) > _KEY_BYTES:
            raise Rejected(
                f"{listing.source}: {path!r} gives a key of more than {_KEY_BYTES} bytes",
                "OSS takes no longer ones",
                "shorten the prefix, or rename the file",
            )
