"""Whether an upload may change a prefix, and when the prefix is complete.

Mounted readers cache, so a complete prefix is never changed in place: another revision, or the
same one with another selection of its files, is refused. ``qwenkit.json`` is written last.
"""

from __future__ import annotations

import logging
from functools import partial

import oss2

from qwenkit.errors import Conflict, Forbidden, InvalidValue, Rejected
from qwenkit.weights.hub.listing import MANIFEST_NAME, PATH_LIMIT, Listing
from qwenkit.weights.integrity import check_tensors, stored_bytes
from qwenkit.weights.inventory import walk
from qwenkit.weights.oss.bucket import (
    abort_upload,
    delete_keys,
    list_objects,
    list_uploads,
    object_url,
)
from qwenkit.weights.oss.errors import get_if_exists
from qwenkit.weights.oss.manifest import (
    META_SHA256,
    DamagedManifest,
    Manifest,
    manifest_key,
    read_manifest,
    write_manifest,
)
from qwenkit.weights.report import plural

_log = logging.getLogger("qwenkit.weights")
_KEY_BYTES = PATH_LIMIT


class Prefix:
    """One prefix of a bucket. ``previous`` is the manifest of an earlier upload.

    ``damaged`` is true if that manifest cannot be read: what it listed is then unknown.
    """

    def __init__(self, bucket: oss2.Bucket, name: str) -> None:
        self._bucket, self.name = bucket, name
        self.url = object_url(bucket, name)
        self.previous, self.damaged = None, False
        try:
            self.previous = read_manifest(bucket, name)
        except DamagedManifest as error:
            self.damaged = True
            _log.warning("%s: %s; this upload writes it again", error.what, error.why)

    def check(self, listing: Listing, *, replace: bool) -> None:
        """Refuse to change a complete prefix.

        Raises:
            Conflict: it has another revision, or another selection of files.
        """
        if self.damaged and not replace:
            self._check_labels(listing)
        if self.previous and not replace:
            require_same(self.url, self.previous, listing)

    def check_folders(self, listing: Listing) -> None:
        """Refuse to change an upload in a folder above or below; ``--replace`` does not mean it.

        Raises:
            Conflict: another upload's prefix is a folder of the listing, or its files are below
                this prefix.
        """
        keys = {self._key(file.path) for file in listing.files}
        self._check_above(keys | {manifest_key(self.name)})
        if all("/" not in file.path for file in listing.files):
            return
        for found in list_objects(self._bucket, self._key("")):
            folder, _, name = found.key.rpartition("/")
            if name != MANIFEST_NAME or folder == self.name or found.key in keys:
                continue
            if any(key.startswith(f"{folder}/") for key in keys):
                raise Conflict(
                    f"{object_url(self._bucket, folder)} is the prefix of another upload",
                    f"{listing.source} has files that belong into this folder",
                    "choose another prefix",
                )

    def _check_above(self, keys: set[str]) -> None:
        parts = self.name.split("/")
        for folder in ("/".join(parts[:count]) for count in range(1, len(parts))):
            try:
                above = read_manifest(self._bucket, folder)
            except (Conflict, Forbidden):  # not ours, damaged, or not for us to read
                continue
            if above and (shared := sorted(above.keys(folder) & keys)):
                raise Conflict(
                    f"{object_url(self._bucket, shared[0])} belongs to another upload",
                    f"{MANIFEST_NAME} of {object_url(self._bucket, folder)} lists it",
                    "choose another prefix",
                )

    def _check_labels(self, listing: Listing) -> None:
        """Refuse to change the objects of an upload whose manifest cannot be read."""
        present = {one.key: one.size for one in list_objects(self._bucket, self._key(""))}
        for file in listing.files:
            if (size := present.get(self._key(file.path))) is None:
                continue
            key = self._key(file.path)
            head = partial(self._bucket.head_object, key)
            found = get_if_exists(self._bucket, object_url(self._bucket, key), head)
            label = found.headers.get(META_SHA256) if found else None
            known = label and file.sha256
            if (label != file.sha256) if known else (size != file.size):
                what = f"{self.url}/{file.path} is not the file of {listing.source}"
                raise _refused(what, f"an upload put it there, and {MANIFEST_NAME} is damaged")

    def open(self, listing: Listing, *, replace: bool) -> None:
        """Mark the prefix as incomplete, and delete leftovers, if its files will change."""
        if self.previous and not self.previous.holds(listing):
            old = self.previous.keys(self.name)
        elif self.damaged and replace:
            old = self._labelled()
        else:
            return
        manifest = manifest_key(self.name)
        delete_keys(self._bucket, [manifest])
        delete_keys(
            self._bucket, sorted(old - {manifest, *(self._key(f.path) for f in listing.files)})
        )

    def _labelled(self) -> set[str]:
        """Return the keys of all objects of ours, except those of uploads in folders below."""
        found = walk(self._bucket, self.name)
        folders = {one.key.removesuffix(MANIFEST_NAME) for one in found.manifests}
        others = tuple(folders - {self._key("")})
        return {file.key for file in found.files if not file.key.startswith(others)}

    def finish(self, manifest: Manifest) -> None:
        """Abort leftovers, check the whole once more, and write the manifest.

        Raises:
            Conflict: an object changed after it was verified.
            Rejected: the safetensors headers and index contradict each other.
        """
        self._abort_orphans(manifest)
        self._check_present(manifest)
        if self.previous and self.previous.equals(manifest):
            return  # it was checked when it was written, and every ETag is still the same
        check_tensors(stored_bytes(self._bucket, self.name), manifest.files, self.url)
        write_manifest(self._bucket, self.name, manifest)

    def _key(self, path: str) -> str:
        return f"{self.name}/{path}"

    def _abort_orphans(self, manifest: Manifest) -> None:
        keys = manifest.keys(self.name)
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


def require_same(url: str, previous: Manifest, listing: Listing) -> None:
    """Refuse to change complete weights in place.

    Raises:
        Conflict: they are of another revision, or of another selection of files.
    """
    if previous.holds(listing):
        return
    if previous.revision != listing.revision:
        what = f"{url} holds {previous.source}, revision {previous.revision[:12]}"
        raise _refused(what, f"{listing.source} is revision {listing.revision[:12]}")
    stored, wanted = previous.paths, {file.path for file in listing.files}
    what = f"{url} holds another selection: {plural(len(stored), 'file')}"
    why = f"this one lacks {len(stored - wanted)} of them and adds {len(wanted - stored)}"
    raise _refused(what, why)


def _refused(what: str, why: str) -> Conflict:
    return Conflict(
        what,
        f"{why}; mounted readers cache, so files are not replaced under them",
        "choose another prefix or --versioned; --replace if nothing mounts it",
    )
