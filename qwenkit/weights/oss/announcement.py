"""Which unfinished uploads are ours: ``qwenkit-upload-<id>.json`` beside the files says so.

A listing of unfinished multipart uploads has only keys and ids, none of the metadata that the
finished object will have. So before the first of them begins, an upload announces the keys. Its
end deletes the announcement; one that was killed leaves it, and teardown and audit read it.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import oss2

from qwenkit.errors import Conflict, Forbidden
from qwenkit.weights.oss.bucket import delete_keys, list_uploads
from qwenkit.weights.oss.manifest import META_RUN, META_RUN_ID, owned_by, put_json, read_object
from qwenkit.weights.retry import RetryPolicy

_log = logging.getLogger("qwenkit.weights")
_NAME = re.compile(r"(?:.*/)?qwenkit-upload-[0-9a-f]{8}\.json", re.DOTALL)


@dataclass(frozen=True)
class Announced:
    """An announcement: who made it, the keys, and the ids of uploads that were there before."""

    key: str
    run_id: str
    keys: frozenset[str]
    before: frozenset[str]

    def began(self, key: str, upload_id: str) -> bool:
        """Return whether this upload began that unfinished one."""
        return key in self.keys and upload_id not in self.before


@dataclass
class Announcement:
    """The announcement of one upload, written once, by whichever file needs it first."""

    bucket: oss2.Bucket
    prefix: str
    run: str
    keys: Iterable[str]
    uploads: Mapping[str, list[str]]
    present: Iterable[str]
    _key: str = ""
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def write(self, policy: RetryPolicy) -> None:
        """Write it, unless that is done."""
        with self._writing:
            if self._key:
                return
            key = f"{self.prefix}/qwenkit-upload-{secrets.token_hex(4)}.json"
            before = sorted(name for ids in self.uploads.values() for name in ids)
            body = json.dumps({"keys": sorted(self.keys), "before": before}).encode()
            put_json(self.bucket, key, body, owned_by(self.run), policy)
            self._key = key

    def close(self) -> None:
        """Delete it, and those of earlier uploads that have nothing unfinished any more.

        One that the bucket keeps is no reason for a complete upload to fail.
        """
        done = [self._key] if self._key else []
        old = [key for key in self.present if is_announcement(key, self.prefix)]
        if old:
            unfinished = list_uploads(self.bucket, f"{self.prefix}/")
            found = [read_announcement(self.bucket, key) for key in old]
            done += [one.key for one in found if one and one.keys.isdisjoint(unfinished)]
        try:
            delete_keys(self.bucket, done)
        except (Conflict, Forbidden) as error:
            _log.warning("%s stays: %s", ", ".join(done), error.why)


def is_announcement(key: str, folder: str | None = None) -> bool:
    """Return whether a key is that of an announcement, directly in ``folder`` if that is given."""
    inside = folder is None or key.rpartition("/")[0] == folder
    return inside and _NAME.fullmatch(key) is not None


def read_announcement(bucket: oss2.Bucket, key: str) -> Announced | None:
    """Return an announcement; None if it is gone, not ours, or a file of this name."""
    text, headers = read_object(bucket, key) or (b"", {})
    if META_RUN not in headers:
        return None
    try:
        document = json.loads(text)
        keys, before = (frozenset(map(str, document[name])) for name in ("keys", "before"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Announced(key, headers.get(META_RUN_ID, ""), keys, before)
