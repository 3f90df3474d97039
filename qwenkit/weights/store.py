"""The weights in a bucket: one prefix, used by upload, preflight and teardown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import oss2

from qwenkit.credentials import Credentials
from qwenkit.errors import Forbidden
from qwenkit.parameters.layers import run_id
from qwenkit.private_files import OWN, home
from qwenkit.settings import Settings
from qwenkit.weights.delete import abort_uploads, delete_weights
from qwenkit.weights.hub.listing import Repository
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.integrity import require_signed, verify
from qwenkit.weights.inventory import Owners, walk
from qwenkit.weights.leftovers import left
from qwenkit.weights.oss import bucket as oss
from qwenkit.weights.oss.preflight import BucketStatus, check
from qwenkit.weights.progress import Progress, format_bytes
from qwenkit.weights.report import UploadReport, VerifyReport, plural
from qwenkit.weights.selection import EVERYTHING, Selection
from qwenkit.weights.transfer import upload

STATE_DIR = home() / OWN / "uploads"


@dataclass(frozen=True)
class PrefixContents:
    """Counts of a prefix: files that qwenkit uploaded, and ``unlisted`` objects of others.

    They mean nothing unless it is ``known`` here what the prefix holds.
    """

    url: str
    objects: int
    bytes: int
    unlisted: int
    uploads: int
    known: bool = True

    def __str__(self) -> str:
        if not self.known:
            return f"only a Job sees what is under {self.url}"
        if not (self.objects or self.unlisted or self.uploads):
            return f"nothing under {self.url}"
        text = f"{plural(self.objects, 'object')}, {format_bytes(self.bytes)} under {self.url}"
        if self.unlisted:
            text += f", and {self.unlisted} that qwenkit did not upload"
        if self.uploads:
            text += f", and {plural(self.uploads, 'unfinished upload')}"
        return text


def source_of(settings: Settings) -> Repository:
    """Return the ``model_source``; opening it sends no request.

    Raises:
        InvalidValue: it has none of the known forms.
        NotFound: it is a folder that does not exist.
    """
    return open_source(
        settings.model_source,
        modelscope_endpoint=settings.modelscope_endpoint,
        hf_endpoint=settings.hf_endpoint,
    )


class BucketWeights:
    """A prefix of a bucket that holds one model, and the source that it comes from."""

    def __init__(self, bucket: oss2.Bucket, settings: Settings) -> None:
        self.bucket, self.prefix, self._settings = bucket, settings.prefix, settings
        self._run_id = run_id()
        self._owners: Owners = {}

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Open the bucket of the settings, with the keys of the environment.

        Raises:
            SettingsError: bucket, endpoint or keys are not set.
            Forbidden: the weights are shared, and the bucket is the administrator's.
        """
        if settings.storage == "shared":
            why = "storage=shared: a claim gives read-only access, and nobody here has its key"
            fix = "to try this, use a bucket of your own, such as the sandbox's"
            raise Forbidden("the bucket is an administrator's", why, fix)
        settings.require("bucket", "oss_endpoint")
        bucket = oss.open_bucket(
            settings.oss_endpoint,
            settings.bucket,
            Credentials.required(),
            region=settings.oss_region,
            signature=settings.oss_signature,
            cname=settings.oss_cname,
        )
        return cls(bucket, settings)

    def __repr__(self) -> str:
        return f"BucketWeights({self.url!r})"

    @property
    def url(self) -> str:
        """The prefix as ``oss://bucket/prefix``."""
        return oss.object_url(self.bucket, self.prefix)

    @cached_property
    def source(self) -> Repository:
        """The model source; see ``source_of``."""
        return source_of(self._settings)

    def check(self) -> BucketStatus:
        """Check the bucket, our clock, and that one small object can be written and read."""
        return check(self.bucket, self.prefix)

    def upload(
        self,
        *,
        replace: bool = False,
        versioned: bool = False,
        selection: Selection = EVERYTHING,
        progress: Callable[[Progress], None] | None = None,
    ) -> UploadReport:
        """Upload the source's files to this prefix; see ``transfer.upload``."""
        return upload(
            self.source,
            self.bucket,
            self.prefix,
            run=self._settings.run,
            state_dir=STATE_DIR,
            replace=replace,
            versioned=versioned,
            selection=selection,
            progress=progress,
            timeout_s=self._settings.seconds("upload"),
        )

    def verify(self) -> VerifyReport:
        """Compare the prefix with its manifest; see ``integrity.verify``."""
        return verify(self.bucket, self.prefix, self._settings.signer)

    def require_signed(self) -> None:
        """Refuse weights that are not as they were signed; see ``integrity.require_signed``."""
        require_signed(self.bucket, self.prefix, self._settings.signer)

    def objects(self) -> list[oss.StoredObject]:
        """List the objects below the prefix."""
        return list(oss.list_objects(self.bucket, f"{self.prefix}/"))

    def kept(self) -> PrefixContents:
        """Count the prefix's objects and unfinished uploads."""
        found = walk(self.bucket, self.prefix, self._owners)
        return PrefixContents(
            url=self.url,
            objects=len(found.files),
            bytes=sum(file.size for file in found.files),
            unlisted=len(found.foreign) + len(found.hidden),
            uploads=len(found.uploads),
        )

    @property
    def scope(self) -> str:
        """What teardown deletes, in words."""
        of_run = "objects that this run uploaded; what was there before stays"
        return of_run if self._run_id else "objects"

    def abort_uploads(self) -> int:
        """Abort the unfinished uploads of ours, in a run its own; return how many."""
        return abort_uploads(self.bucket, self.prefix, run_id=self._run_id, known=self._owners)

    def delete_objects(self) -> int:
        """Delete the objects that carry our metadata, in a run its own; return how many files."""
        return delete_weights(self.bucket, self.prefix, run_id=self._run_id, known=self._owners)

    def left(self, *, delete_weights: bool) -> tuple[list[str], list[str]]:
        """Say what is left here that should not be, and what is not ours or may not be read."""
        return left(
            self.bucket,
            self.prefix,
            self._owners,
            run_id=self._run_id,
            delete_weights=delete_weights,
        )
