"""What lies under a prefix, and whose it is.

The bucket itself is walked: no manifest lists what a killed upload left, or what others put
beside it. An object is ours by its metadata, and an unfinished upload by an announcement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import oss2

from qwenkit.errors import Conflict, Forbidden
from qwenkit.weights.hub.listing import MANIFEST_NAME
from qwenkit.weights.oss.announcement import Announced, is_announcement, read_announcement
from qwenkit.weights.oss.bucket import StoredObject, list_objects, list_uploads, object_url
from qwenkit.weights.oss.errors import get_if_exists
from qwenkit.weights.oss.manifest import META_RUN, META_RUN_ID, DamagedManifest, read_manifest

_WORKERS = 16
# Label and id of the run that uploaded an object, if it is ours.
Owner: TypeAlias = tuple[str, str] | Literal["foreign", "hidden", "gone"]
Owners: TypeAlias = dict[StoredObject, Owner]


@dataclass(frozen=True)
class OwnObject:
    """An object that carries our metadata. ``run_id`` is empty if no ``qwenkit run`` sent it."""

    key: str
    size: int
    run: str
    run_id: str


@dataclass(frozen=True)
class Inventory:
    """Everything under a prefix.

    ``files`` are ours, without manifests and announcements. ``listed`` has the keys that a
    manifest lists, with the id of the manifest's run. ``hidden`` may not be read.
    """

    files: tuple[OwnObject, ...]
    manifests: tuple[OwnObject, ...]
    listed: Mapping[str, str]
    announced: tuple[Announced, ...]
    foreign: tuple[StoredObject, ...]
    hidden: tuple[StoredObject, ...]
    uploads: tuple[tuple[str, str], ...]

    def deletable(self, run_id: str) -> list[OwnObject]:
        """Return the files of ours; within a run, those that this very run uploaded.

        One that it sent again, because it was damaged, belongs to the earlier upload.
        """
        mine = (file for file in self.files if run_id in ("", file.run_id))
        return [f for f in mine if not run_id or self.listed.get(f.key, run_id) == run_id]

    def loose(self) -> list[OwnObject]:
        """Return the files of ours that no complete upload lists."""
        return [file for file in self.files if file.key not in self.listed]

    def our_uploads(self, run_id: str) -> list[tuple[str, str]]:
        """Return the unfinished uploads of ours; within a run, those that this run began."""
        if run_id:
            mine = [one for one in self.announced if one.run_id == run_id]
            return [upload for upload in self.uploads if any(one.began(*upload) for one in mine)]
        keys = {file.key for file in self.files} | self.listed.keys()
        keys = keys.union(*(one.keys for one in self.announced))
        return [upload for upload in self.uploads if upload[0] in keys]


def walk(bucket: oss2.Bucket, prefix: str, known: Owners | None = None) -> Inventory:
    """List everything under the folder ``prefix``, and ask for the metadata of each object.

    ``known`` keeps the owners between walks: an object that is listed as before is not asked for.

    Raises:
        NotFound: the bucket does not exist.
        Forbidden: it may not be listed.
    """
    folder = prefix.strip("/") + "/"
    found = list(list_objects(bucket, folder))
    known = {} if known is None else known
    new = [one for one in found if one not in known]
    with ThreadPoolExecutor(_WORKERS) as pool:
        known.update(zip(new, pool.map(partial(_owner, bucket), new), strict=True))
    owners = [(one, known[one]) for one in found]
    ours = [OwnObject(o.key, o.size, *owner) for o, owner in owners if isinstance(owner, tuple)]
    manifests, listed = _manifests(bucket, ours, found)
    announced = tuple(
        one
        for file in ours
        if is_announcement(file.key) and (one := read_announcement(bucket, file.key))
    )
    named = {one.key for one in manifests} | {one.key for one in announced}
    return Inventory(
        files=tuple(file for file in ours if file.key not in named),
        manifests=tuple(manifests),
        listed=listed,
        announced=announced,
        foreign=tuple(o for o, owner in owners if owner == "foreign" and o.key not in named),
        hidden=tuple(o for o, owner in owners if owner == "hidden"),
        uploads=tuple(
            (key, name) for key, ids in list_uploads(bucket, folder).items() for name in ids
        ),
    )


def _owner(bucket: oss2.Bucket, found: StoredObject) -> Owner:
    try:
        what = object_url(bucket, found.key)
        head = get_if_exists(bucket, what, partial(bucket.head_object, found.key))
    except Forbidden:
        return "hidden"
    if head is None:
        return "gone"
    if META_RUN not in head.headers:
        return "foreign"
    return head.headers[META_RUN], head.headers.get(META_RUN_ID, "")


def _manifests(
    bucket: oss2.Bucket, ours: Iterable[OwnObject], found: Iterable[StoredObject]
) -> tuple[list[OwnObject], dict[str, str]]:
    """Return our manifests in all folders, and what they list. A damaged one lists nothing."""
    labelled = {one.key: one for one in ours}
    manifests: list[OwnObject] = []
    listed: dict[str, str] = {}
    for one in found:
        folder, _, name = one.key.rpartition("/")
        if name != MANIFEST_NAME:
            continue
        run, id_ = "", ""  # those of older versions have no metadata
        try:
            if manifest := read_manifest(bucket, folder):
                run, id_ = manifest.run, manifest.run_id
                listed |= dict.fromkeys(manifest.keys(folder), id_)
        except DamagedManifest:
            pass
        except (Conflict, Forbidden):
            continue
        manifests.append(labelled.get(one.key, OwnObject(one.key, one.size, run, id_)))
    return manifests, listed
