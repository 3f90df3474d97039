"""The senders that transfer.py compares: each runs in a process that imports only its own.

    python benchmarks/transfer_senders.py NAME JSON

The job is JSON: url, file, state, folder, and what the sender itself asks for.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

KEY_ID, SECRET, BUCKET, REGION = "benchmark", "benchmark-secret", "bench", "cn-hangzhou"
MODEL = "bench/model"
FILE = "model.bin"
PART = 16 << 20
SENDERS: dict[str, Callable[[dict[str, Any]], None]] = {}


def sender(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register what a child process runs under ``name``."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        SENDERS[name] = function
        return function

    return register


@sender("qwenkit")
def send_with_qwenkit(job: dict[str, Any]) -> None:
    """Send a folder or a hub's model with this engine."""
    from qwenkit.weights.hub.repository import open_source
    from qwenkit.weights.transfer import TransferOptions, upload

    options = TransferOptions(**job.get("options", {}))
    source = open_source(job["source"], modelscope_endpoint=job.get("hub", ""))
    state = Path(job["state"])
    upload(source, _bucket(job), "qwenkit", run="bench", state_dir=state, options=options)


@sender("download then upload")
def send_by_disk(job: dict[str, Any]) -> None:
    """Download to the disk, then send the folder, as tutorials do."""
    import requests

    session = requests.Session()
    session.trust_env = False
    folder = Path(job["folder"]) / "download"
    folder.mkdir()
    url = f"{job['hub']}/api/v1/models/{MODEL}/repo"
    query = {"Revision": "master", "FilePath": FILE}
    with session.get(url, params=query, stream=True) as answer, (folder / FILE).open("wb") as out:
        for chunk in answer.iter_content(1 << 20):
            out.write(chunk)
    send_with_qwenkit(job | {"source": str(folder)})


@sender("oss2")
def send_with_oss2(job: dict[str, Any]) -> None:
    """Send with oss2's own resumable upload."""
    import oss2

    auth = oss2.AuthV4(KEY_ID, SECRET)
    bucket = oss2.Bucket(auth, job["url"], BUCKET, region=REGION)  # its own defaults
    store = oss2.ResumableStore(root=job["state"])
    oss2.resumable_upload(bucket, "oss2", job["file"], num_threads=job["threads"], store=store)


@sender("oss-v2")
def send_with_v2(job: dict[str, Any]) -> None:
    """Send with the v2 SDK's uploader."""
    import alibabacloud_oss_v2 as oss

    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(KEY_ID, SECRET)
    config.region, config.endpoint, config.use_path_style = REGION, job["url"], True
    uploader = oss.Client(config).uploader(**job["tuning"])
    uploader.upload_file(oss.PutObjectRequest(bucket=BUCKET, key="v2"), filepath=job["file"])


@sender("bare")
def send_bare(job: dict[str, Any]) -> None:
    """Read, hash and push: threads take parts in turn, each over one socket."""
    import oss2

    bucket, threads, size = _bucket(job), job["threads"], os.path.getsize(job["file"])
    upload_id = bucket.init_multipart_upload("bare").upload_id
    numbers = iter(range(1, -(-size // PART) + 1))
    lock, etags, failed = threading.Lock(), {}, []

    def push() -> None:
        try:
            _push(job, bucket, upload_id, numbers, lock, etags)
        except Exception as error:
            failed.append(error)

    workers = [threading.Thread(target=push) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    parts = [oss2.models.PartInfo(number, etags[number]) for number in sorted(etags)]
    bucket.complete_multipart_upload("bare", upload_id, parts)


def _push(
    job: dict[str, Any],
    bucket: Any,
    upload_id: str,
    numbers: Iterator[int],
    lock: threading.Lock,
    etags: dict[int, str],
) -> None:
    import hashlib
    import socket
    from urllib.parse import urlsplit

    from qwenkit.weights.parts import crc64

    host = urlsplit(job["url"])
    connection = socket.create_connection((host.hostname, host.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    descriptor = os.open(job["file"], os.O_RDONLY)
    buffer, digest = memoryview(bytearray(PART)), hashlib.sha256()
    while True:
        with lock:
            number = next(numbers, 0)
        if not number:
            break
        part = buffer[: os.preadv(descriptor, [buffer], (number - 1) * PART)]
        digest.update(part)
        crc = crc64(part)
        query = {"uploadId": upload_id, "partNumber": str(number)}
        url = urlsplit(bucket.sign_url("PUT", "bare", 3600, params=query, slash_safe=True))
        head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n"
        connection.sendall(f"{head}Content-Length: {len(part)}\r\n\r\n".encode())
        connection.sendall(part)
        answer = b""
        while b"\r\n\r\n" not in answer:
            received = connection.recv(65536)
            if not received:
                raise RuntimeError("the server closed the connection")
            answer += received
        fields = dict(re.findall(r"(?mi)^([\w-]+): *(.*?)\r$", answer.decode("latin-1")))
        fields = {name.lower(): value for name, value in fields.items()}
        if int(fields["x-oss-hash-crc64ecma"]) != crc:
            raise RuntimeError(f"part {number}: {answer[:200]!r}")
        etags[number] = fields["etag"].strip('"')


def _bucket(job: dict[str, Any]) -> Any:
    from qwenkit.credentials import Credentials
    from qwenkit.weights.oss.bucket import open_bucket

    keys = Credentials(access_key_id=KEY_ID, access_key_secret=SECRET)
    return open_bucket(job["url"], BUCKET, keys, region=REGION)


def child(name: str, job: dict[str, Any]) -> None:
    """Run one sender and print its times. Imports are not counted."""
    if name != "oss-v2":
        import oss2  # noqa: F401

        import qwenkit.weights.transfer  # noqa: F401
    else:
        import alibabacloud_oss_v2  # noqa: F401
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    SENDERS[name](job)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    result = {
        "seconds": seconds,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "rss_growth_mib": (after.ru_maxrss - before.ru_maxrss) * unit / 2**20,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    child(sys.argv[1], json.loads(sys.argv[2]))
