"""How fast do weights reach a bucket? This engine, Alibaba Cloud's two SDKs, and bare senders.

    python benchmarks/transfer.py --size 2GiB --json

All of them send the same file to the same local OSS server, one after the other, each in a
process of its own. The server is another process, whose ETag is not the MD5 of the bytes (that
alone would take a core); it is the same for all. A bare sender only reads, hashes (sha256 and
CRC-64) and pushes parts over plain sockets: the best of them, with 1 to 4 threads, is the
ceiling. The second table sends from a hub, as a stream and by way of the disk.

The v2 SDK cannot share an environment with oss2. Name the Python of one that has it in
QWENKIT_OSS_V2_PYTHON; without it the SDK is reported as absent.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
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


# --- what is measured, each in a process of its own


@sender("qwenkit")
def send_with_qwenkit(job: dict[str, Any]) -> None:
    from qwenkit.weights.hub import open_source
    from qwenkit.weights.transfer import TransferOptions, upload

    options = TransferOptions(**job.get("options", {}))
    source = open_source(job["source"], modelscope_endpoint=job.get("hub", ""))
    state = Path(job["state"])
    upload(source, _bucket(job), "qwenkit", run="bench", state_dir=state, options=options)


@sender("download then upload")
def send_by_disk(job: dict[str, Any]) -> None:
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
    import oss2

    bucket = _bucket(job)
    bucket.enable_crc = True  # its own default
    store = oss2.ResumableStore(root=job["state"])
    oss2.resumable_upload(
        bucket, "oss2", job["file"], num_threads=job["threads"], store=store, **job["tuning"]
    )


@sender("oss-v2")
def send_with_v2(job: dict[str, Any]) -> None:
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
    from qwenkit.settings import Credentials
    from qwenkit.weights.oss import open_bucket

    keys = Credentials(access_key_id=KEY_ID, access_key_secret=SECRET)
    return open_bucket(job["url"], BUCKET, keys, region=REGION)


def child(name: str, job: dict[str, Any]) -> None:
    """Run one sender, and say what it took. Imports are not counted."""
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


def serve(root: Path) -> None:
    """Run the OSS server and a hub, and print their addresses."""
    import asyncio

    from qwenkit.sandbox.http import listen
    from qwenkit.sandbox.hub_server import HubServer
    from qwenkit.sandbox.oss_server import OssServer

    async def run() -> None:
        server = OssServer(root / "oss", {KEY_ID: SECRET}, buckets=[BUCKET], etag="crc")
        oss = await listen(server.app())
        hub = await listen(HubServer(root / "hub").app())
        print(json.dumps({"url": oss.url, "hub": hub.url}), flush=True)
        await asyncio.to_thread(sys.stdin.read)  # ends with the parent

    asyncio.run(run())


# --- the parent


class Bench:
    """Runs senders against one server, and empties the bucket after each."""

    def __init__(self, folder: Path, size: int, repeat: int) -> None:
        self.folder, self.size, self.repeat = folder, size, repeat
        self.file = folder / "hub" / MODEL / FILE
        self.file.parent.mkdir(parents=True)
        # A small block: a child's peak memory starts at its parent's.
        block = os.urandom(1 << 20)
        with self.file.open("wb") as out:
            for start in range(0, size, len(block)):
                # Numbered, so that no two parts are equal.
                stamped = start.to_bytes(8, "big") + block[8:]
                out.write(stamped[: size - start])
        self._server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert self._server.stdout
        self.addresses: dict[str, str] = json.loads(self._server.stdout.readline())

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait(30)

    def run(self, name: str, python: str = sys.executable, **job: Any) -> dict[str, Any]:
        """Run one sender ``repeat`` times; return the median run."""
        runs = sorted((self._once(name, python, job) for _ in range(self.repeat)), key=_seconds)
        return runs[len(runs) // 2]

    def _once(self, name: str, python: str, job: dict[str, Any]) -> dict[str, Any]:
        state = self.folder / "state"
        state.mkdir()
        job = {"file": str(self.file), "state": f"{state}/", "folder": str(self.folder)} | job
        job |= {"url": self.addresses["url"]}
        served = self._server_cpu_s()
        command = [python, __file__, "--child", name, json.dumps(job)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        result: dict[str, Any] = json.loads(done.stdout)
        result["mb_per_s"] = self.size / result["seconds"] / 1e6
        result["server_cpu_s"] = self._server_cpu_s() - served
        for leftover in (state, self.folder / "oss" / BUCKET, self.folder / "download"):
            shutil.rmtree(leftover, ignore_errors=True)
        (self.folder / "oss" / BUCKET).mkdir(parents=True)
        return result

    def _server_cpu_s(self) -> float:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self._server.pid}/stat").read_text().rsplit(")")[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return float("nan")


def measure(bench: Bench) -> dict[str, Any]:
    """Return both tables and the ratios."""
    source = {"source": str(bench.file.parent)}
    senders: dict[str, Any] = {"qwenkit": bench.run("qwenkit", **source)}
    for threads in (1, 2, 3, 4):
        senders[f"bare, {threads} threads"] = bench.run("bare", threads=threads)
    senders["qwenkit, again"] = bench.run("qwenkit", **source)
    for threads in (1, 4, 8):
        senders[f"oss2, {threads} threads"] = bench.run("oss2", threads=threads, tuning={})
    v2 = os.environ.get("QWENKIT_OSS_V2_PYTHON", "")
    if v2:
        tuned = {"parallel_num": 4, "part_size": PART}
        senders["oss-v2, defaults"] = bench.run("oss-v2", v2, tuning={})
        senders["oss-v2, tuned"] = bench.run("oss-v2", v2, tuning=tuned)
    hub = {"hub": bench.addresses["hub"]}
    streams = {
        "stream": bench.run("qwenkit", source=f"modelscope:{MODEL}", **hub) | {"disk_bytes": 0},
        "download then upload": bench.run("download then upload", **hub)
        | {"disk_bytes": bench.size},
    }
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "size_bytes": bench.size,
        "repeat": bench.repeat,
        "folder_is_memory": str(bench.folder).startswith("/dev/shm"),
        "oss_v2": "measured" if v2 else "absent",
        "senders": senders,
        "hub": streams,
        "ratios": _ratios(senders, streams),
    }


def _ratios(senders: dict[str, Any], streams: dict[str, Any]) -> dict[str, float | None]:
    def best(start: str) -> float | None:
        found = [one["mb_per_s"] for name, one in senders.items() if name.startswith(start)]
        return max(found) if found else None

    ours = statistics.mean(
        one["mb_per_s"] for name, one in senders.items() if name.startswith("qwenkit")
    )
    wanted = {"of_the_ceiling": "bare", "times_oss2": "oss2", "times_oss_v2": "oss-v2"}
    ratios = {name: ours / rate if (rate := best(start)) else None for name, start in wanted.items()}
    by_disk = streams["download then upload"]["seconds"]
    return ratios | {"stream_over_disk": streams["stream"]["seconds"] / by_disk}


def _seconds(run: dict[str, Any]) -> float:
    return float(run["seconds"])


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"{'':24}{'MB/s':>8}{'seconds':>9}{'CPU s':>8}{'server':>8}{'RSS MiB':>9}")
    for name, one in (result["senders"] | result["hub"]).items():
        print(
            f"{name:24}{one['mb_per_s']:8.0f}{one['seconds']:9.2f}{one['cpu_s']:8.2f}"
            f"{one['server_cpu_s']:8.2f}{one['rss_growth_mib']:9.0f}"
        )
    if result["oss_v2"] == "absent":
        print("oss-v2: absent (QWENKIT_OSS_V2_PYTHON names a Python that has it)")
    for name, ratio in result["ratios"].items():
        print(f"{name}: {'-' if ratio is None else format(ratio, '.2f')}")


def parse_size(text: str) -> int:
    """Read a size such as 2GiB, 500MB or 1000000."""
    found = re.fullmatch(r"(\d+)\s*(|[kMG]i?B)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 2GiB")
    power = " kMG".index(found.group(2)[0]) if found.group(2) else 0
    return int(found.group(1)) * (1024 if "i" in found.group(2) else 1000) ** power


def workplace(size: int) -> Path:
    """Choose where the server keeps its files: in memory where that is possible."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 5 * size:
        return Path(tempfile.mkdtemp(prefix="qwenkit-bench-", dir=memory))
    return Path(tempfile.mkdtemp(prefix="qwenkit-bench-"))


def main() -> None:
    """Run all senders and print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("2GiB"))
    parser.add_argument("--repeat", type=int, default=1, help="take the median of so many runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
    elif arguments.child:
        child(arguments.child[0], json.loads(arguments.child[1]))
    else:
        folder = workplace(arguments.size)
        try:
            with contextlib.closing(Bench(folder, arguments.size, arguments.repeat)) as bench:
                result = measure(bench)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps(result, indent=1)) if arguments.json else show(result)


if __name__ == "__main__":
    main()
