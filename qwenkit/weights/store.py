"""The course's weights in their bucket: one folder, seen by upload, preflight and teardown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import oss2

from qwenkit.credentials import Credentials
from qwenkit.errors import Conflict, NotFound, SettingsError
from qwenkit.settings import Settings
from qwenkit.weights.hub.listing import Repository
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.integrity import verify
from qwenkit.weights.manifest import delete_prefix, manifest_key, read_manifest
from qwenkit.weights.oss import bucket as oss
from qwenkit.weights.progress import Progress, format_bytes
from qwenkit.weights.report import UploadReport, VerifyReport, plural
from qwenkit.weights.selection import EVERYTHING, Selection
from qwenkit.weights.transfer import upload

STATE_DIR = Path.home() / ".qwenkit" / "uploads"


@dataclass(frozen=True)
class Kept:
    """What lies in the bucket under the prefix. ``unlisted`` objects no manifest of ours names."""

    url: str
    objects: int
    bytes: int
    unlisted: int
    uploads: int

    def __str__(self) -> str:
        if not (self.objects or self.unlisted or self.uploads):
            return f"nothing under {self.url}"
        text = f"{plural(self.objects, 'object')}, {format_bytes(self.bytes)} under {self.url}"
        if self.unlisted:
            text += f", and {self.unlisted} that no finished upload of ours lists"
        if self.uploads:
            text += f", and {plural(self.uploads, 'unfinished upload')}"
        return text


class Weights:
    """A folder of a bucket that holds one model."""

    def __init__(self, bucket: oss2.Bucket, prefix: str, *, run: str) -> None:
        self.bucket, self.prefix, self._run = bucket, prefix, run

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Open the bucket that the settings name, with the keys of the environment.

        Raises:
            SettingsError: bucket, endpoint or keys are not set.
        """
        settings.require("bucket", "oss_endpoint")
        bucket = oss.open_bucket(
            settings.oss_endpoint,
            settings.bucket,
            Credentials.required(),
            region=settings.oss_region,
        )
        return cls(bucket, settings.prefix, run=settings.run)

    def __repr__(self) -> str:
        return f"Weights({self.url!r})"

    @property
    def url(self) -> str:
        """How a person names the folder: ``oss://bucket/prefix``."""
        return oss.object_url(self.bucket, self.prefix)

    def check(self) -> oss.BucketStatus:
        """Ask for the bucket: does it exist, may we read it, is our clock right?"""
        return oss.check(self.bucket)

    def upload(
        self,
        repository: Repository,
        *,
        replace: bool = False,
        versioned: bool = False,
        selection: Selection = EVERYTHING,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> UploadReport:
        """Bring a repository's files here; see ``transfer.upload``."""
        return upload(
            repository,
            self.bucket,
            self.prefix,
            run=self._run,
            state_dir=STATE_DIR,
            replace=replace,
            versioned=versioned,
            selection=selection,
            progress=progress,
            cancel=cancel,
        )

    def verify(self) -> VerifyReport:
        """Compare what lies here with its manifest; see ``integrity.verify``."""
        return verify(self.bucket, self.prefix)

    def objects(self) -> list[oss.StoredObject]:
        """List what lies here."""
        return list(oss.list_objects(self.bucket, f"{self.prefix}/"))

    def kept(self) -> Kept:
        """Count what lies here, and what of it a finished upload of ours listed."""
        found = {item.key: item.size for item in self.objects()}
        listed = self._listed()
        ours = found.keys() & listed - {manifest_key(self.prefix)}
        return Kept(
            url=self.url,
            objects=len(ours),
            bytes=sum(found[key] for key in ours),
            unlisted=len(found.keys() - listed),
            uploads=sum(map(len, oss.list_uploads(self.bucket, f"{self.prefix}/").values())),
        )

    def abort_uploads(self) -> int:
        """Throw away unfinished uploads; return how many."""
        return oss.abort_uploads(self.bucket, self.prefix)

    def delete_objects(self) -> int:
        """Delete what a finished upload of ours put here; return how many objects."""
        try:
            return delete_prefix(self.bucket, self.prefix)
        except NotFound:
            return 0

    def _listed(self) -> set[str]:
        """Return the keys of a finished upload of ours, its manifest's included."""
        try:
            manifest = read_manifest(self.bucket, self.prefix)
        except Conflict:  # somebody else's qwenkit.json
            return set()
        if manifest is None:
            return set()
        return {f"{self.prefix}/{f.path}" for f in manifest.files} | {manifest_key(self.prefix)}


def repository(settings: Settings) -> Repository:
    """Open the model source that the settings name."""
    return open_source(
        settings.model_source,
        modelscope_endpoint=settings.modelscope_endpoint,
        hf_endpoint=settings.hf_endpoint,
    )


def parse_url(url: str) -> tuple[str, str]:
    """Split ``oss://bucket/prefix``.

    Raises:
        SettingsError: it is not of that form.
    """
    bucket, _, prefix = url.removeprefix("oss://").partition("/")
    if not url.startswith("oss://") or not bucket or not prefix.strip("/"):
        raise SettingsError("target", url, "must be oss://bucket/prefix")
    return bucket, prefix.strip("/")
