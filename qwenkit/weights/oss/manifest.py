"""The manifest ``qwenkit.json``: written last, it marks a prefix as complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import oss2

from qwenkit.errors import Conflict
from qwenkit.settings import MANAGED_BY, RUN_LABEL, run_labels
from qwenkit.weights.hub.listing import MANIFEST_NAME, SourceFile
from qwenkit.weights.oss.bucket import object_url
from qwenkit.weights.oss.errors import get_if_exists
from qwenkit.weights.selection import EVERYTHING, Selection

_FORMAT = 1

# The metadata of each object; only what carries META_RUN, or is in the manifest, is ours.
META_RUN = "x-oss-meta-qwenkit-run"
META_SHA256 = "x-oss-meta-qwenkit-sha256"
META_CRC64 = "x-oss-meta-qwenkit-crc64"


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

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files)

    def keys(self, prefix: str) -> set[str]:
        """Return the keys of all files under ``prefix``, and of the manifest itself."""
        return {f"{prefix}/{file.path}" for file in self.files} | {manifest_key(prefix)}


def manifest_key(prefix: str) -> str:
    """Return the key of the manifest of a prefix."""
    return f"{prefix.strip('/')}/{MANIFEST_NAME}"


def read_manifest(bucket: oss2.Bucket, prefix: str) -> Manifest | None:
    """Return the manifest of a prefix, None if no upload completed there.

    Raises:
        Conflict: there is a ``qwenkit.json`` that no upload of ours wrote.
    """
    key = manifest_key(prefix)
    url = object_url(bucket, key)
    text = get_if_exists(bucket, f"read {url}", lambda: bucket.get_object(key).read())
    if text is None:
        return None
    try:
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Conflict(
            f"{url} was not written by qwenkit",
            f"it cannot be read as a manifest: {error}",
            "choose another prefix, or delete that object if it is yours",
        ) from error


def dump(manifest: Manifest) -> bytes:
    """Return the manifest as JSON. CRCs are strings: JSON parsers round numbers that large."""
    document = {
        "format": _FORMAT,
        "source": manifest.source,
        "revision": manifest.revision,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "labels": run_labels(manifest.run),
        "selection": asdict(manifest.selection),
        "files": [asdict(file) | {"crc64": str(file.crc64)} for file in manifest.files],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _parse(document: Mapping[str, Any]) -> Manifest:
    labels = document["labels"]
    if document["format"] != _FORMAT or labels[MANAGED_BY] != "qwenkit":
        raise ValueError(f"format {document['format']}, labels {labels}")
    return Manifest(
        str(document["source"]),
        str(document["revision"]),
        str(labels[RUN_LABEL]),
        tuple(_parse_file(file) for file in document["files"]),
        Selection(**{name: tuple(globs) for name, globs in document.get("selection", {}).items()}),
    )


def _parse_file(file: Mapping[str, Any]) -> StoredFile:
    # A later version may say more about a file.
    path, sha256, etag = (str(file.get(name, "")) for name in ("path", "sha256", "etag"))
    return StoredFile(path, int(file["size"]), sha256, int(file["crc64"]), etag)
