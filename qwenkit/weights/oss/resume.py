"""Resume an upload from this machine's checkpoint and the server's list of parts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from xml.etree import ElementTree

import oss2

from qwenkit.errors import NotFound, Rejected, TransferError
from qwenkit.weights.checkpoint import Checkpoint
from qwenkit.weights.oss.bucket import abort_upload, object_url
from qwenkit.weights.oss.errors import CHANGES, call_oss
from qwenkit.weights.parts import MAX_PARTS, Part, PartLayout

_LARGEST = 128 << 20  # bytes; larger parts of another program would take too much memory


def find_upload(
    bucket: oss2.Bucket,
    key: str,
    wanted: Checkpoint,
    saved: Checkpoint | None,
    candidates: Iterable[str],
) -> tuple[Checkpoint, dict[int, Part]] | None:
    """Choose an unfinished upload to resume, and abort the others.

    ``saved`` is this machine's checkpoint; ``candidates`` are the ids that the server lists,
    including uploads that another machine began. Return the checkpoint to resume from, and the
    parts that the server has; the caller compares their CRC with the source's bytes.
    """
    if saved and (saved.size, saved.sha256) != (wanted.size, wanted.sha256):
        abort_upload(bucket, key, saved.upload_id)
        saved = None
    chosen = None
    for upload_id in dict.fromkeys([saved.upload_id] if saved else []) | dict.fromkeys(candidates):
        parts = None if chosen else _resumable(bucket, key, upload_id, wanted, saved)
        if parts is None:
            abort_upload(bucket, key, upload_id)
        else:
            chosen = parts
    return chosen


def list_parts(bucket: oss2.Bucket, key: str, upload_id: str) -> dict[int, Part] | None:
    """Return the parts that arrived, with their CRC; None if the upload does not exist.

    oss2 drops the CRC that the server states, so the answer is parsed here. A part without a
    CRC gets -1, which is the CRC of no data.
    """
    found: list[Part] = []
    marker = ""
    while True:
        query = partial(_part_page, bucket, key, upload_id, marker)
        try:
            parts, marker = call_oss(bucket, f"list parts of {object_url(bucket, key)}", query)
        except (NotFound, Rejected):  # it is gone, or never was: a checkpoint may name any id
            return None
        found += parts
        if not marker:
            return {part.number: part for part in found}


def _resumable(
    bucket: oss2.Bucket, key: str, upload_id: str, wanted: Checkpoint, saved: Checkpoint | None
) -> tuple[Checkpoint, dict[int, Part]] | None:
    parts = list_parts(bucket, key, upload_id)
    if parts is None:
        return None
    mine = saved if saved and saved.upload_id == upload_id else None
    known = mine.parts if mine else {}
    # Only the last part may be shorter, so the first one shows the part size.
    first = parts[1].size if 1 in parts else wanted.part_size
    part_size = mine.part_size if mine else first
    layout = PartLayout(wanted.size, part_size)
    fits = (
        0 < part_size <= max(wanted.part_size, _LARGEST)
        and layout.count <= MAX_PARTS
        and all(
            1 <= n <= layout.count and part.size == layout.length(n) for n, part in parts.items()
        )
    )
    if not fits:
        return None
    merged = {n: _reconciled(part, known.get(n)) for n, part in parts.items()}
    return Checkpoint(upload_id, wanted.size, wanted.sha256, part_size, known.copy()), merged


def _reconciled(listed: Part, recorded: Part | None) -> Part:
    """Use the recorded CRC where the server states none for the same part."""
    if listed.crc64 >= 0 or recorded is None:
        return listed
    same = (recorded.etag, recorded.size) == (listed.etag, listed.size)
    return recorded if same else listed


def _part_page(
    bucket: oss2.Bucket, key: str, upload_id: str, marker: str
) -> tuple[list[Part], str]:
    """Return the parts after ``marker``, and the marker of the next page, empty on the last."""
    query = {"uploadId": upload_id, "part-number-marker": marker, "max-parts": "1000"}
    answer = bucket._do("GET", bucket.bucket_name, key, params=query)
    try:
        page = ElementTree.fromstring(answer.read())
        parts = [
            Part(
                int(node.findtext("PartNumber", "")),
                node.findtext("ETag", "").strip('"'),
                int(node.findtext("HashCrc64ecma") or -1),
                int(node.findtext("Size", "")),
            )
            for node in page.findall("Part")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        url = object_url(bucket, key)
        raise TransferError(
            f"list parts of {url}: the answer is damaged", str(error), CHANGES
        ) from error
    more = page.findtext("IsTruncated") == "true"
    return parts, page.findtext("NextPartNumberMarker", "") if more else ""
