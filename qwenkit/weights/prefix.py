"""Whether an upload may change a prefix, and when the prefix is complete.

Mounted readers cache, so a complete prefix is never changed in place: another revision, or the
same one with another selection of its files, is refused. ``qwenkit.json`` is written last.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import oss2

from qwenkit.errors import Conflict, InvalidValue, Rejected
from qwenkit.weights.hub.listing import MANIFEST_NAME, Listing
from qwenkit.weights.integrity import check_stored
from qwenkit.weights.oss.bucket import (
    abort_upload,
    delete_keys,
    list_objects,
    list_uploads,
    object_url,
)
from qwenkit.weights.oss.errors import call_oss, check_crc
from qwenkit.weights.oss.manifest import Manifest, dump, manifest_key, read_manifest
from qwenkit.weights.parts import crc64
from qwenkit.weights.report import plural

_KEY_BYTES = 1023


class Prefix:
    """One prefix of a bucket. ``previous`` is the manifest of an earlier upload."""

    def __init__(self, bucket: oss2.Bucket, name: str) -> None:
        self._bucket, self.name = bucket, name
        self.url = object_url(bucket, name)
        self.previous = read_manifest(bucket, name)

    def check(self, listing: Listing, *, replace: bool) -> None:
        """Refuse to change a complete prefix.

        Raises:
            Conflict: it has another revision, or another selection of files.
        """
        previous = self.previous
        if previous is None or replace or self._holds(listing):
            return
        if previous.revision != listing.revision:
            what = f"{self.url} holds {previous.source}, revision {previous.revision[:12]}"
            why = f"{listing.source} is revision {listing.revision[:12]}"
        else:
            stored, wanted = _paths(previous), {file.path for file in listing.files}
            what = f"{self.url} holds another selection: {plural(len(stored), 'file')}"
            why = f"this one lacks {len(stored - wanted)} of them and adds {len(wanted - stored)}"
        raise Conflict(
            what,
            f"{why}; mounted readers cache, so files are not replaced under them",
            "choose another prefix or --versioned; --replace if nothing mounts it",
        )

    def open(self, listing: Listing) -> None:
        """Mark the prefix as incomplete from now on, if its files will change."""
        if self.previous and not self._holds(listing):
            delete_keys(self._bucket, [manifest_key(self.name)])

    def finish(self, manifest: Manifest) -> None:
        """Delete leftovers, check the whole once more, and write the manifest.

        Raises:
            Conflict: an object changed after it was verified.
            Rejected: the safetensors headers and index contradict each other.
        """
        self._abort_orphans(_paths(manifest))
        stale = sorted(_paths(self.previous) - _paths(manifest)) if self.previous else []
        delete_keys(self._bucket, [self._key(path) for path in stale])
        self._check_present(manifest)
        previous = self.previous
        if previous and (previous.revision, previous.files) == (manifest.revision, manifest.files):
            return  # it was checked when it was written, and every ETag is still the same
        check_stored(self._bucket, self.name, manifest.files)
        self._write(manifest)

    def _holds(self, listing: Listing) -> bool:
        """Return whether the prefix is complete with this revision and exactly these files."""
        previous = self.previous
        return (
            previous is not None
            and previous.revision == listing.revision
            and _paths(previous) == {file.path for file in listing.files}
        )

    def _key(self, path: str) -> str:
        return f"{self.name}/{path}"

    def _abort_orphans(self, paths: Iterable[str]) -> None:
        keys = set(map(self._key, paths))
        for key, ids in list_uploads(self._bucket, self._key("")).items():
            for upload_id in ids if key in keys else ():
                abort_upload(self._bucket, key, upload_id)

    def _check_present(self, manifest: Manifest) -> None:
        etags = {found.key: found.etag for found in list_objects(self._bucket, self._key(""))}
        for file in manifest.files:
            if etags.get(self._key(file.path)) != file.etag:
                raise Conflict(
                    f"{self.url}/{file.path} changed during the upload",
                    "another program writes to this prefix",
                    "stop it, then repeat",
                )

    def _write(self, manifest: Manifest) -> None:
        body, key = dump(manifest), manifest_key(self.name)
        what = f"write {object_url(self._bucket, key)}"
        headers = {"Content-Type": "application/json"}
        answer = call_oss(self._bucket, what, partial(self._bucket.put_object, key, body, headers))
        check_crc(what, answer.crc, crc64(body))


def check_keys(prefix: str, listing: Listing) -> None:
    """Refuse a prefix or a file that cannot be in a key.

    Raises:
        InvalidValue: the prefix is not a folder of the bucket.
        Rejected: a key would be too long.
    """
    if not prefix or prefix.startswith("\\"):
        raise InvalidValue("prefix", prefix, "must be a folder inside the bucket")
    for path in (*(file.path for file in listing.files), MANIFEST_NAME):
        if len(f"{prefix}/{path}".encode()) > _KEY_BYTES:
            raise Rejected(
                f"{listing.source}: {path!r} gives a key of more than {_KEY_BYTES} bytes",
                "OSS allows no longer keys",
                "shorten the prefix, or rename the file",
            )


def _paths(manifest: Manifest) -> set[str]:
    return {file.path for file in manifest.files}
