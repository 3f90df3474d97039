"""What is left under a prefix after a teardown, for the leak audit: sentences that name it."""

from __future__ import annotations

from collections.abc import Sequence

import oss2

from qwenkit.errors import QwenkitError
from qwenkit.weights.inventory import Inventory, Owners, OwnObject, walk
from qwenkit.weights.oss.bucket import object_url, old_versions
from qwenkit.weights.oss.url import oss_url
from qwenkit.weights.progress import format_bytes
from qwenkit.weights.report import plural

_SHOWN = 5
_DELETE = "billed: repeat the upload, or qwenkit teardown --delete-weights"


def left(
    bucket: oss2.Bucket, prefix: str, known: Owners, *, run_id: str, delete_weights: bool
) -> tuple[list[str], list[str]]:
    """Return what should not be there any more, and what is not ours or cannot be read.

    Objects that no complete upload lists, and unfinished uploads, are billed and nothing else
    names them: they are left even if weights are kept. Within a run, what it did not upload is
    never left by it.

    Raises:
        NotFound: the bucket does not exist.
        Forbidden: it may not be listed.
    """
    url = object_url(bucket, prefix)
    found = walk(bucket, prefix, known)
    ours = _ours_left(found, url, run_id, delete_weights=delete_weights)
    others = [*_before(found, url, run_id), *_foreign(found, url, bucket.bucket_name, run_id)]
    return ours, [*others, *_versions(bucket, prefix, url)]


def _ours_left(found: Inventory, url: str, run_id: str, *, delete_weights: bool) -> list[str]:
    uploads = found.our_uploads(run_id)
    announced = [one for one in found.announced if run_id in ("", one.run_id)]
    lines = [f"{plural(len(uploads), 'unfinished upload')} under {url}"] * bool(uploads)
    lines += [f"the list of an upload that did not end: {one.key}" for one in announced]
    files = found.deletable(run_id)
    if delete_weights and files:
        return [*lines, f"{_counted(files)} under {url}"]
    if loose := [file for file in found.loose() if file in files]:
        lines.append(f"{_counted(loose)} of an upload that did not end under {url}, {_DELETE}")
    return lines


def _before(found: Inventory, url: str, run_id: str) -> list[str]:
    """Name what an earlier upload left, which a run does not delete."""
    mine = found.deletable(run_id)
    loose = [file for file in found.loose() if file not in mine]
    lines = f"{_counted(loose)} of an earlier upload that did not end under {url}, {_DELETE}"
    return [lines] * bool(loose)


def _foreign(found: Inventory, url: str, bucket: str, run_id: str) -> list[str]:
    lines = []
    if found.foreign:
        names = _listed([one.key for one in found.foreign])
        size = format_bytes(sum(one.size for one in found.foreign))
        objects = plural(len(found.foreign), "object")
        lines.append(f"{objects} ({size}) under {url} that qwenkit did not upload: {names}")
    if found.hidden:
        names = _listed([one.key for one in found.hidden])
        objects = plural(len(found.hidden), "object")
        lines.append(f"{objects} under {url} whose metadata may not be read: {names}")
    ours = set(found.our_uploads(run_id))
    who = "this run" if run_id else "qwenkit"
    others = [
        f"{oss_url(bucket, key)} (id {name})"
        for key, name in found.uploads
        if (key, name) not in ours
    ]
    if others:
        uploads = plural(len(others), "unfinished upload")
        lines.append(f"{uploads} that {who} did not begin, billed: {_listed(others)}")
    return lines


def _versions(bucket: oss2.Bucket, prefix: str, url: str) -> list[str]:
    try:
        count, size = old_versions(bucket, f"{prefix}/")
    except QwenkitError as error:
        return [": ".join(filter(None, (error.what, error.why)))]
    if not count:
        return []
    versions = plural(count, "old version")
    return [
        f"{versions} ({format_bytes(size)}) of objects under {url}, billed: the bucket keeps "
        f"versions; ossutil rm -r --all-versions {url}/ deletes them"
    ]


def _counted(files: Sequence[OwnObject]) -> str:
    runs = _listed(sorted({repr(file.run) for file in files}))
    size = format_bytes(sum(file.size for file in files))
    return f"{plural(len(files), 'object')} ({size}, run {runs})"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
