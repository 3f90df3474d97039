"""Delete weights: only the files that a manifest of ours lists."""

from __future__ import annotations

import oss2

from qwenkit.errors import NotFound
from qwenkit.weights.hub.listing import MANIFEST_NAME
from qwenkit.weights.oss.bucket import abort_uploads, delete_keys, list_objects, object_url
from qwenkit.weights.oss.manifest import manifest_key, read_manifest


def delete_weights(bucket: oss2.Bucket, prefix: str) -> int:
    """Delete the manifest's files below ``prefix``, then the manifest; abort unfinished uploads.

    Objects that the manifest does not list are not ours and stay.

    Returns:
        How many of its files were there.

    Raises:
        NotFound: there is no manifest.
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
    ours = manifest.keys(prefix) - {manifest_key(prefix)}
    present = [found.key for found in list_objects(bucket, f"{prefix}/") if found.key in ours]
    # The manifest goes last, so that an interrupted deletion can be repeated.
    delete_keys(bucket, present)
    delete_keys(bucket, [manifest_key(prefix)])
    abort_uploads(bucket, prefix)
    return len(present)
