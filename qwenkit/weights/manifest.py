"""``qwenkit.json``: written last, it is what "this prefix is complete" means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import oss2

from qwenkit.errors import Conflict, NotFound
from qwenkit.weights.hub.listing import MANIFEST_NAME
from qwenkit.weights.oss.bucket import abort_uploads, delete_keys, list_objects, object_url
from qwenkit.weights.oss.errors import ask
from qwenkit.weights.selection import EVERYTHING, Selection

MANAGED_BY = "app.kubernetes.io/managed-by"
RUN = "qwenkit.dev/run"
_FORMAT = 1


@dataclass(frozen=True)
class StoredFile:
    """One file as it lies in the bucket.

    The ETag is the server's at the moment that the CRC-64 was proven: as long as a listing shows
    it, the object is the one that was proven. Manifests of older uploads lack it.
    """

    path: str
    size: int
    sha256: str
    crc64: int
    etag: str = ""


@dataclass(frozen=True)
class Manifest:
    """What an upload put under a prefix, and whose it is."""

    source: str
    revision: str
    run: str
    files: tuple[StoredFile, ...]
    selection: Selection = EVERYTHING
    created: str = ""

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files)


def manifest_key(prefix: str) -> str:
    """Return the key of the manifest of a prefix."""
    return f"{prefix.strip('/')}/{MANIFEST_NAME}"


def read_manifest(bucket: oss2.Bucket, prefix: str) -> Manifest | None:
    """Return the manifest of a prefix, None if nothing completed there.

    Raises:
        Conflict: a ``qwenkit.json`` lies there that no upload of ours wrote.
    """
    key = manifest_key(prefix)
    try:
        text = ask(bucket, f"read {object_url(bucket, key)}", lambda: bucket.get_object(key).read())
    except NotFound as error:
        if error.context.get("code") == "NoSuchBucket":
            raise
        return None
    try:
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Conflict(
            f"{object_url(bucket, key)} was not written by qwenkit",
            f"it does not read as a manifest: {error}",
            "choose another prefix, or delete that object if it is yours",
        ) from error


def delete_prefix(bucket: oss2.Bucket, prefix: str) -> int:
    """Delete what an upload of ours put below ``prefix``: the manifest's files, then it.

    Objects that the manifest does not list are not ours and stay.

    Returns:
        How many of its files were there.

    Raises:
        NotFound: no manifest lies there.
        Conflict: the manifest is not one of ours.
    """
    prefix = prefix.strip("/")
    manifest = read_manifest(bucket, prefix)
    if manifest is None:
        raise NotFound(
            f"{object_url(bucket, prefix)} has no {MANIFEST_NAME}",
            "only what an upload of qwenkit completed is deleted",
            "delete the objects with ossutil if they are yours",
        )
    ours = {f"{prefix}/{file.path}" for file in manifest.files}
    there = [found.key for found in list_objects(bucket, f"{prefix}/") if found.key in ours]
    # The manifest goes last: a deletion that breaks off can be repeated.
    delete_keys(bucket, there)
    delete_keys(bucket, [manifest_key(prefix)])
    abort_uploads(bucket, prefix)
    return len(there)


def dump(manifest: Manifest) -> bytes:
    """Return the manifest as the object's bytes. CRCs are text: JSON numbers lose their end."""
    document = {
        "format": _FORMAT,
        "source": manifest.source,
        "revision": manifest.revision,
        "created": manifest.created or datetime.now(UTC).isoformat(timespec="seconds"),
        "labels": {MANAGED_BY: "qwenkit", RUN: manifest.run},
        "selection": asdict(manifest.selection),
        "files": [asdict(file) | {"crc64": str(file.crc64)} for file in manifest.files],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _parse(document: Mapping[str, Any]) -> Manifest:
    labels = document["labels"]
    if document["format"] != _FORMAT or labels[MANAGED_BY] != "qwenkit":
        raise ValueError(f"format {document['format']}, labels {labels}")
    files = (
        StoredFile(
            str(f["path"]),
            int(f["size"]),
            str(f["sha256"]),
            int(f["crc64"]),
            str(f.get("etag", "")),
        )
        for f in document["files"]
    )
    selection = document.get("selection", {})
    return Manifest(
        str(document["source"]),
        str(document["revision"]),
        str(labels[RUN]),
        tuple(files),
        Selection(tuple(selection.get("include", ())), tuple(selection.get("exclude", ()))),
        str(document.get("created", "")),
    )
