"""Delete weights and abort unfinished uploads: only those of ours, within a run its own."""

from __future__ import annotations

import oss2

from qwenkit.weights.inventory import Owners, walk
from qwenkit.weights.oss.bucket import abort_upload, delete_keys


def delete_weights(
    bucket: oss2.Bucket, prefix: str, *, run_id: str = "", known: Owners | None = None
) -> int:
    """Delete the objects below ``prefix`` that carry our metadata; return how many files.

    With ``run_id``, only those that this very run uploaded: what was there before stays. ``known``
    is as in ``walk``.

    Raises:
        NotFound: the bucket does not exist.
    """
    found = walk(bucket, prefix, known)
    files = [file.key for file in found.deletable(run_id)]
    # The manifests go first: what is left if this is interrupted must not look complete.
    delete_keys(bucket, [one.key for one in found.manifests if run_id in ("", one.run_id)])
    delete_keys(bucket, files)
    return len(files)


def abort_uploads(
    bucket: oss2.Bucket, prefix: str, *, run_id: str = "", known: Owners | None = None
) -> int:
    """Abort the unfinished uploads of ours below ``prefix``; return how many.

    They are billed like objects, and listings do not show them. With ``run_id``, only those that
    this very run began.

    Raises:
        NotFound: the bucket does not exist.
    """
    found = walk(bucket, prefix, known)
    uploads = found.our_uploads(run_id)
    for key, upload_id in uploads:
        abort_upload(bucket, key, upload_id)
    delete_keys(bucket, [one.key for one in found.announced if run_id in ("", one.run_id)])
    return len(uploads)
