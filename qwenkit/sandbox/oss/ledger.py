"""The OSS server's records of buckets, objects and uploads, in one SQLite file.

Used on the event loop's thread only. The record of an object is valid only while its file has the
size and the times of the record.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from qwenkit.errors import SandboxError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created REAL);
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT, key TEXT, escaped INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    etag TEXT, crc TEXT, kind TEXT, headers TEXT, PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS escaped ON objects (bucket, key) WHERE escaped;
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, bucket TEXT, key TEXT, initiated REAL, headers TEXT
);
CREATE TABLE IF NOT EXISTS parts (
    upload TEXT, number INTEGER, file TEXT, start INTEGER, size INTEGER, modified REAL,
    etag TEXT, crc TEXT, PRIMARY KEY (upload, number)
);
"""


@dataclass(frozen=True)
class ObjectRecord:
    """One object: its file's identity, its digests, and the headers stored with it."""

    bucket: str
    key: str
    escaped: bool
    size: int
    mtime_ns: int
    ctime_ns: int
    etag: str
    crc: int
    kind: str = "Normal"
    headers: Mapping[str, str] = field(default_factory=dict)

    def describes(self, status: os.stat_result) -> bool:
        """Return whether the file is still the one that was recorded."""
        recorded = (self.size, self.mtime_ns, self.ctime_ns)
        return recorded == (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True)
class UploadRecord:
    """One unfinished multipart upload."""

    id: str
    bucket: str
    key: str
    initiated: float
    headers: Mapping[str, str]


@dataclass(frozen=True)
class PartRecord:
    """One part that arrived: its place in a file of the upload's folder."""

    number: int
    file: str
    start: int
    size: int
    modified: float
    etag: str
    crc: int


class Ledger:
    """The database; every change is committed at once."""

    def __init__(self, path: Path) -> None:
        """Open or make the database.

        Raises:
            SandboxError: another process uses it, or it is not a database.
        """
        self._db = sqlite3.connect(path, isolation_level=None, timeout=2.0)
        try:
            # Two servers over one folder would not see each other's changes.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            self._db.close()
            raise SandboxError(
                f"{path} cannot be opened",
                str(error),
                "stop the OSS server that uses this folder, or choose another --root",
            ) from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    # --- buckets

    def bucket_created(self, name: str) -> float | None:
        """Return when the bucket was created, in seconds since the epoch; None if unknown."""
        found = self._db.execute("SELECT created FROM buckets WHERE name=?", (name,)).fetchone()
        return found[0] if found else None

    def save_bucket(self, name: str, created: float) -> None:
        """Record a bucket."""
        self._db.execute("REPLACE INTO buckets (name, created) VALUES (?, ?)", (name, created))

    def forget_bucket(self, name: str) -> None:
        """Delete the records of a bucket and its objects."""
        self._db.execute("DELETE FROM buckets WHERE name=?", (name,))
        self._db.execute("DELETE FROM objects WHERE bucket=?", (name,))

    # --- objects

    def record(self, bucket: str, key: str) -> ObjectRecord | None:
        """Return an object's record, valid or outdated."""
        row = self._db.execute(
            "SELECT * FROM objects WHERE bucket=? AND key=?", (bucket, key)
        ).fetchone()
        if row is None:
            return None
        _, _, escaped, size, mtime, ctime, etag, crc, kind, headers = row
        known = json.loads(headers)
        return ObjectRecord(
            bucket, key, bool(escaped), size, mtime, ctime, etag, int(crc), kind, known
        )

    def save(self, record: ObjectRecord) -> None:
        """Record an object."""
        self._db.execute(
            "REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            _row(record),
        )

    def forget(self, bucket: str, key: str) -> None:
        """Delete an object's record."""
        self._db.execute("DELETE FROM objects WHERE bucket=? AND key=?", (bucket, key))

    def escaped_keys(self, bucket: str) -> list[str]:
        """Return the keys that are kept under escaped names, in byte order."""
        rows = self._db.execute("SELECT key FROM objects WHERE bucket=? AND escaped", (bucket,))
        return sorted(row[0] for row in rows)

    # --- uploads

    def save_upload(self, upload: UploadRecord) -> None:
        """Record a new upload."""
        self._db.execute(
            "INSERT INTO uploads VALUES (?, ?, ?, ?, ?)",
            _row(upload),
        )

    def uploads(self, bucket: str) -> list[UploadRecord]:
        """Return a bucket's unfinished uploads in the order in which OSS lists them."""
        rows = self._db.execute("SELECT * FROM uploads WHERE bucket=?", (bucket,))
        found = [_upload(row) for row in rows]
        return sorted(found, key=lambda upload: (upload.key, upload.id))

    def upload(self, upload_id: str) -> UploadRecord | None:
        """Return one upload."""
        row = self._db.execute("SELECT * FROM uploads WHERE id=?", (upload_id,)).fetchone()
        return _upload(row) if row else None

    def forget_upload(self, upload_id: str) -> None:
        """Delete the records of an upload and its parts."""
        self._db.execute("DELETE FROM uploads WHERE id=?", (upload_id,))
        self._db.execute("DELETE FROM parts WHERE upload=?", (upload_id,))

    def save_part(self, upload_id: str, part: PartRecord) -> None:
        """Record a part, in place of an earlier one of its number."""
        self._db.execute(
            "REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (upload_id, *_row(part)),
        )

    def parts(self, upload_id: str) -> dict[int, PartRecord]:
        """Return an upload's parts by number, ascending."""
        rows = self._db.execute("SELECT * FROM parts WHERE upload=? ORDER BY number", (upload_id,))
        return {
            number: PartRecord(number, file, start, size, modified, etag, int(crc))
            for _, number, file, start, size, modified, etag, crc in rows
        }


def _row(record: ObjectRecord | UploadRecord | PartRecord) -> list[object]:
    """Return the columns of a record; CRCs as text, because SQLite's integers are signed."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    if "crc" in values:
        values["crc"] = str(values["crc"])
    if "headers" in values:
        values["headers"] = json.dumps(dict(values["headers"]))
    return list(values.values())


def _upload(row: tuple[str, str, str, float, str]) -> UploadRecord:
    upload_id, bucket, key, initiated, headers = row
    return UploadRecord(upload_id, bucket, key, initiated, json.loads(headers))
