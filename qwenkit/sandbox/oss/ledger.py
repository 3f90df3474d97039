"""What the OSS server knows beyond the files themselves, in one SQLite file.

Used on the event loop's thread only. A row for an object is a claim about a file's content;
it counts only while the file still has the size and times that the row names.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qwenkit.errors import SandboxError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created REAL, acl TEXT);
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
class Record:
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
        """Tell whether the file is still the one that was recorded."""
        recorded = (self.size, self.mtime_ns, self.ctime_ns)
        return recorded == (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True)
class Upload:
    """One unfinished multipart upload."""

    id: str
    bucket: str
    key: str
    initiated: float
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """One part that arrived: from ``start`` on in ``file`` of the upload's folder."""

    number: int
    file: str
    start: int
    size: int
    modified: float
    etag: str
    crc: int


class Ledger:
    """The database; every method that changes something commits."""

    def __init__(self, path: Path) -> None:
        """Open or make the database.

        Raises:
            SandboxError: another process has it, or it is none.
        """
        self._db = sqlite3.connect(path, isolation_level=None, timeout=2.0)
        try:
            # Two servers over one folder would each believe their own memory.
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

    def bucket(self, name: str) -> tuple[float, str] | None:
        """Return when the bucket was made and its ACL."""
        found = self._db.execute("SELECT created, acl FROM buckets WHERE name=?", (name,))
        row = found.fetchone()
        return (row[0], row[1]) if row else None

    def save_bucket(self, name: str, *, created: float, acl: str) -> None:
        """Record a bucket."""
        self._db.execute("REPLACE INTO buckets VALUES (?, ?, ?)", (name, created, acl))

    def forget_bucket(self, name: str) -> None:
        """Drop everything known about a bucket."""
        self._db.execute("DELETE FROM buckets WHERE name=?", (name,))
        self._db.execute("DELETE FROM objects WHERE bucket=?", (name,))

    # --- objects

    def record(self, bucket: str, key: str) -> Record | None:
        """Return what is known about an object, true or outdated."""
        row = self._db.execute(
            "SELECT * FROM objects WHERE bucket=? AND key=?", (bucket, key)
        ).fetchone()
        if row is None:
            return None
        _, _, escaped, size, mtime_ns, ctime_ns, etag, crc, kind, headers = row
        return Record(
            bucket=bucket,
            key=key,
            escaped=bool(escaped),
            size=size,
            mtime_ns=mtime_ns,
            ctime_ns=ctime_ns,
            etag=etag,
            crc=int(crc),
            kind=kind,
            headers=json.loads(headers),
        )

    def save(self, record: Record) -> None:
        """Record an object."""
        self._db.execute(
            "REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.bucket,
                record.key,
                record.escaped,
                record.size,
                record.mtime_ns,
                record.ctime_ns,
                record.etag,
                str(record.crc),  # SQLite's integers are signed
                record.kind,
                json.dumps(dict(record.headers)),
            ),
        )

    def forget(self, bucket: str, key: str) -> None:
        """Drop an object's record."""
        self._db.execute("DELETE FROM objects WHERE bucket=? AND key=?", (bucket, key))

    def escaped_keys(self, bucket: str) -> list[str]:
        """Return the keys that are kept under escaped names, in byte order."""
        rows = self._db.execute("SELECT key FROM objects WHERE bucket=? AND escaped", (bucket,))
        return sorted(row[0] for row in rows)

    # --- uploads

    def save_upload(self, upload: Upload) -> None:
        """Record a new upload."""
        self._db.execute(
            "INSERT INTO uploads VALUES (?, ?, ?, ?, ?)",
            (
                upload.id,
                upload.bucket,
                upload.key,
                upload.initiated,
                json.dumps(dict(upload.headers)),
            ),
        )

    def uploads(self, bucket: str) -> list[Upload]:
        """Return a bucket's unfinished uploads in the order in which OSS lists them."""
        rows = self._db.execute("SELECT * FROM uploads WHERE bucket=?", (bucket,))
        found = [_upload(row) for row in rows]
        return sorted(found, key=lambda upload: (upload.key, upload.id))

    def upload(self, upload_id: str) -> Upload | None:
        """Return one upload."""
        row = self._db.execute("SELECT * FROM uploads WHERE id=?", (upload_id,)).fetchone()
        return _upload(row) if row else None

    def forget_upload(self, upload_id: str) -> None:
        """Drop an upload and its parts."""
        self._db.execute("DELETE FROM uploads WHERE id=?", (upload_id,))
        self._db.execute("DELETE FROM parts WHERE upload=?", (upload_id,))

    def save_part(self, upload_id: str, part: Part) -> None:
        """Record a part, in place of an earlier one of its number."""
        self._db.execute(
            "REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                upload_id,
                part.number,
                part.file,
                part.start,
                part.size,
                part.modified,
                part.etag,
                str(part.crc),
            ),
        )

    def parts(self, upload_id: str) -> dict[int, Part]:
        """Return an upload's parts by number, ascending."""
        rows = self._db.execute("SELECT * FROM parts WHERE upload=? ORDER BY number", (upload_id,))
        return {
            number: Part(number, file, start, size, modified, etag, int(crc))
            for _, number, file, start, size, modified, etag, crc in rows
        }


def _upload(row: tuple[str, str, str, float, str]) -> Upload:
    upload_id, bucket, key, initiated, headers = row
    return Upload(upload_id, bucket, key, initiated, json.loads(headers))
