"""The manifest ``qwenkit.json``: written last, it marks a prefix as complete.

Its metadata say whose it is and which bytes were written, so a damaged one is still known as ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import oss2

from qwenkit.errors import Conflict, Rejected
from qwenkit.parameters.layers import run_id
from qwenkit.settings import MANAGED_BY, RUN_LABEL, run_labels
from qwenkit.weights.hub.listing import MANIFEST_NAME, Listing, SourceFile, check_path
from qwenkit.weights.oss.bucket import object_url
from qwenkit.weights.oss.errors import CHANGES, CrcMismatch, call_oss, check_crc, get_if_exists
from qwenkit.weights.parts import crc64, md5_header
from qwenkit.weights.retry import RetryPolicy
from qwenkit.weights.selection import EVERYTHING, Selection

_FORMAT = 1
_OURS = f'"{MANAGED_BY}": "qwenkit"'.encode()  # older versions wrote no metadata
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, Rejected)
_LIMIT = 64 << 20  # bytes; a manifest of 100,000 files has 25 MiB

# The metadata of each object; only what carries META_RUN is ours. A label may be shared by
# several runs, META_RUN_ID may not: it is there if a ``qwenkit run`` uploaded the object.
META_RUN = "x-oss-meta-qwenkit-run"
META_RUN_ID = "x-oss-meta-qwenkit-run-id"
META_SHA256 = "x-oss-meta-qwenkit-sha256"
META_CRC64 = "x-oss-meta-qwenkit-crc64"


def owned_by(run: str, id_: str | None = None) -> dict[str, str]:
    """Return the metadata that mark an object as ours; the id is by default this process's."""
    id_ = run_id() if id_ is None else id_
    return {META_RUN: run} | ({META_RUN_ID: id_} if id_ else {})


@dataclass(frozen=True)
class StoredFile:
    """One file in the bucket.

    ``etag`` is the server's when the CRC-64 was verified: while a listing shows the same ETag,
    the object is the verified one. Manifests of older uploads lack it.
    """

    path: str
    size: int
    sha256: str
    crc64: int
    etag: str = ""

    def as_listed(self) -> SourceFile:
        """Return the file as a source lists it."""
        return SourceFile(self.path, self.size, self.sha256)


@dataclass(frozen=True)
class Manifest:
    """The files that an upload put under a prefix, and the run that they belong to."""

    source: str
    revision: str
    run: str
    files: tuple[StoredFile, ...]
    selection: Selection = EVERYTHING
    run_id: str = ""

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files)

    @property
    def paths(self) -> set[str]:
        """The paths of all files."""
        return {file.path for file in self.files}

    def keys(self, prefix: str) -> set[str]:
        """Return the keys of all files under ``prefix``, and of the manifest itself."""
        return {f"{prefix}/{path}" for path in self.paths} | {manifest_key(prefix)}

    def holds(self, listing: Listing) -> bool:
        """Return whether it is of this revision and of exactly these files."""
        same = self.revision == listing.revision
        return same and self.paths == {file.path for file in listing.files}

    def equals(self, other: Manifest) -> bool:
        """Return whether it lists the same files, byte for byte."""
        return (self.revision, self.files) == (other.revision, other.files)


def manifest_key(prefix: str) -> str:
    """Return the key of the manifest of a prefix."""
    return f"{prefix.strip('/')}/{MANIFEST_NAME}"


class DamagedManifest(Conflict):
    """A ``qwenkit.json`` that an upload of ours wrote cannot be read; the next upload mends it."""


def read_manifest(bucket: oss2.Bucket, prefix: str) -> Manifest | None:
    """Return the manifest of a prefix, None if no upload completed there.

    Raises:
        DamagedManifest: it was written by an upload of ours, but has other bytes now.
        Conflict: there is a ``qwenkit.json`` that no upload of ours wrote.
    """
    key = manifest_key(prefix)
    url = object_url(bucket, key)
    if (found := read_object(bucket, key)) is None:
        return None
    text, headers = found
    try:
        written = headers.get(META_SHA256)
        if written and written != hashlib.sha256(text).hexdigest():
            raise ValueError("its bytes are not those that were written")
        return parse(json.loads(text))
    except UNREADABLE as error:
        if META_RUN in headers or _OURS in text:
            run = headers.get(META_RUN, "of an older version")
            raise DamagedManifest(
                f"{url} is damaged",
                f"run {run} wrote it, but it cannot be read: {unreadable(error)}",
                "repeat the upload: it keeps the files that are there, and writes it again",
            ) from None
        raise Conflict(
            f"{url} was not written by qwenkit",
            f"it cannot be read as a manifest: {unreadable(error)}",
            "choose another prefix, or delete that object if it is yours",
        ) from None


def write_manifest(bucket: oss2.Bucket, prefix: str, manifest: Manifest) -> None:
    """Write the manifest of a prefix, again if other bytes arrive."""
    body = dump(manifest)
    labels = owned_by(manifest.run, manifest.run_id)
    put_json(bucket, manifest_key(prefix), body, labels)


def put_json(
    bucket: oss2.Bucket,
    key: str,
    body: bytes,
    labels: Mapping[str, str],
    policy: RetryPolicy | None = None,
) -> None:
    """Write a small object of ours, again if other bytes arrive."""
    what = f"write {object_url(bucket, key)}"
    headers = {"Content-Type": "application/json", **md5_header(body), **labels}
    headers[META_SHA256] = hashlib.sha256(body).hexdigest()

    def put() -> None:
        check_crc(what, bucket.put_object(key, body, headers).crc, crc64(body))

    call_oss(bucket, what, put, policy)


def read_object(bucket: oss2.Bucket, key: str) -> tuple[bytes, Mapping[str, str]] | None:
    """Return the bytes and headers of an object, of a large one only the first bytes.

    None if it does not exist.
    """
    return get_if_exists(bucket, f"read {object_url(bucket, key)}", partial(_get, bucket, key))


def _get(bucket: oss2.Bucket, key: str) -> tuple[bytes, Mapping[str, str]]:
    answer, text = bucket.get_object(key), b""
    while len(text) < _LIMIT and (piece := answer.read(1 << 20)):
        text += piece
    whole = len(text) == answer.content_length
    if whole and answer.server_crc not in (None, crc64(text)):
        what = f"read {object_url(bucket, key)}"
        raise CrcMismatch(
            f"{what}: other bytes arrived than were sent", "their CRC-64 differs", CHANGES
        )
    return text, answer.headers


def unreadable(error: Exception) -> str:
    """Return why a manifest cannot be read, from one of ``UNREADABLE``."""
    named = {KeyError: "it lacks ", RecursionError: "it is nested too deeply: "}
    return f"{named.get(type(error), '')}{getattr(error, 'what', error)}"[:200]


def dump(manifest: Manifest) -> bytes:
    """Return the manifest as JSON. CRCs are strings: JSON parsers round numbers that large."""
    document = {
        "format": _FORMAT,
        "source": manifest.source,
        "revision": manifest.revision,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "labels": run_labels(manifest.run),
        "run_id": manifest.run_id,
        "selection": asdict(manifest.selection),
        "files": [asdict(file) | {"crc64": str(file.crc64)} for file in manifest.files],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def parse(document: Mapping[str, Any]) -> Manifest:
    """Read a manifest from its JSON; what it may raise, ``read_manifest`` turns into words."""
    labels = document["labels"]
    if document["format"] != _FORMAT or labels[MANAGED_BY] != "qwenkit":
        raise ValueError(
            f"this version reads format {_FORMAT}, it has format {document['format']!r}"
            f" and the labels {labels}"
        )
    return Manifest(
        str(document["source"]),
        str(document["revision"]),
        str(labels[RUN_LABEL]),
        tuple(_parse_file(file) for file in document["files"]),
        Selection(**{name: tuple(globs) for name, globs in document.get("selection", {}).items()}),
        str(document.get("run_id", "")),
    )


def _parse_file(file: Mapping[str, Any]) -> StoredFile:
    # A later version may say more about a file.
    path, sha256, etag = (str(file.get(name, "")) for name in ("path", "sha256", "etag"))
    check_path(path, MANIFEST_NAME)
    size = file["size"]
    if type(size) is not int or size < 0:
        raise ValueError(f"the size of {path!r} is {size!r}")
    return StoredFile(path, size, sha256, int(str(file["crc64"])), etag)
