"""An upload of one object of twelve parts and a small one, and what may be sent twice."""

from __future__ import annotations

import random
from typing import Any

from transfer_world import OPTIONS, PART, World

from qwenkit.weights.report import UploadReport
from qwenkit.weights.transfer import upload

PARTS = 12
CRC = "x-oss-hash-crc64ecma"
DATA = random.Random(4).randbytes(PARTS * PART - 5)
FILES = {"w.bin": DATA, "config.json": b"{}"}
IN_FLIGHT = OPTIONS.workers
ATTEMPTS = OPTIONS.retries.attempts


def send(place: World, **more: Any) -> UploadReport:
    folder = place.root.parent / "model"
    arguments = {"run": "test", "state_dir": place.state, "options": OPTIONS} | more
    bucket = arguments.pop("bucket", place.bucket)
    return upload(str(folder), bucket, "m", **arguments)
