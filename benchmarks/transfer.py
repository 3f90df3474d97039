"""How fast do weights reach a bucket? This engine, Alibaba Cloud's two SDKs, and bare senders.

    python benchmarks/transfer.py --size 2GiB --json

All of them send the same file to the same local OSS server, one after the other, each in a
process of its own. The server is another process, whose ETag is not the MD5 of the bytes (that
alone would take a core); it is the same for all. A bare sender only reads, hashes (sha256 and
CRC-64) and pushes parts over plain sockets: the best of them, with 1 to 4 threads, is the
ceiling. ``hub`` has the times from a hub, as a stream and through the disk. ``busy`` is the part of
all cores that sender and servers used together: near 1, the machine is the limit, not the code.

On loopback without a limit, stream and disk are both bound by the CPU. ``limited`` has the same two
with hub and bucket at --limit-mb-s each, as networks are: the stream takes half the time.

The v2 SDK cannot share an environment with oss2. Name the Python of one that has it in
QWENKIT_OSS_V2_PYTHON; without it the SDK is reported as absent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.transfer_senders import BUCKET, FILE, KEY_ID, MODEL, PART, SECRET  # noqa: E402

_BURST_S = 0.25  # a network catches up so much after a pause of this machine
SENDERS = Path(__file__).with_name("transfer_senders.py")


class Line:
    """A network in front of a server: so many bytes a second, for all connections together."""

    def __init__(self, url: str, bytes_per_s: float) -> None:
        self._address, self._rate, self._free_at = urlsplit(url), bytes_per_s, 0.0

    async def open(self) -> str:
        """Listen; return the address."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connect(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        host, port = self._address.hostname, self._address.port
        far, on = await asyncio.open_connection(host, port)
        await asyncio.gather(self._carry(near, on), self._carry(far, back), return_exceptions=True)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                now = time.monotonic()
                self._free_at = max(self._free_at, now - _BURST_S) + len(data) / self._rate
                await asyncio.sleep(max(0.0, self._free_at - now))
                target.write(data)
                await target.drain()
        finally:
            target.close()


def serve(kind: str, root: Path, bytes_per_s: float) -> None:
    """Run the OSS server or a hub; print its address, and that behind a limited network."""
    from qwenkit.sandbox.http import listen
    from qwenkit.sandbox.hub.server import HubServer
    from qwenkit.sandbox.oss.server import OssServer

    async def run() -> None:
        if kind == "oss":
            app = OssServer(root / "oss", {KEY_ID: SECRET}, buckets=[BUCKET], etag="crc").app()
        else:
            app = HubServer(root / "hub").app()
        url = (await listen(app)).url
        print(url, await Line(url, bytes_per_s).open(), flush=True)
        await asyncio.to_thread(sys.stdin.read)  # ends with the parent

    asyncio.run(run())


class Server:
    """A server in a process of its own."""

    def __init__(self, kind: str, root: Path, limit_mb_s: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind, str(root), f"--limit-mb-s={limit_mb_s}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.url, self.limited_url = self._process.stdout.readline().split()

    def cpu_s(self) -> float:
        """Return the CPU seconds used so far, if the system shows them."""
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")")[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return float("nan")

    def close(self) -> None:
        """End the server."""
        self._process.communicate(timeout=30)


class Bench:
    """Runs senders against one server, and empties the bucket after each."""

    def __init__(self, folder: Path, size: int, limit_mb_s: float) -> None:
        self.folder, self.size, self.limit_mb_s = folder, size, limit_mb_s
        self.file = folder / "hub" / MODEL / FILE
        self.file.parent.mkdir(parents=True)
        # A small block: a child's peak memory starts at its parent's.
        block = os.urandom(1 << 20)
        with self.file.open("wb") as out:
            for start in range(0, size, len(block)):
                # Numbered: no two parts are equal.
                stamped = start.to_bytes(8, "big") + block[8:]
                out.write(stamped[: size - start])
        self.oss, self.hub = (Server(kind, folder, limit_mb_s) for kind in ("oss", "hub"))
        # A staged download is on a disk, not in memory.
        self.disk = Path(tempfile.mkdtemp(prefix="qwenkit-bench-disk-"))

    def close(self) -> None:
        """End the servers."""
        self.oss.close()
        self.hub.close()
        shutil.rmtree(self.disk, ignore_errors=True)

    def run(
        self, name: str, python: str = sys.executable, *, limited: bool = False, **job: Any
    ) -> dict[str, Any]:
        """Run one sender once, if ``limited`` over networks that are."""
        state = self.folder / "state"
        state.mkdir()
        job = {"file": str(self.file), "state": f"{state}/", "folder": str(self.disk)} | job
        job |= {"url": self.oss.limited_url if limited else self.oss.url}
        job |= {"hub": self.hub.limited_url if limited else self.hub.url}
        served, fed = self.oss.cpu_s(), self.hub.cpu_s()
        command = [python, str(SENDERS), name, json.dumps(job)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        result: dict[str, Any] = json.loads(done.stdout)
        result["mb_per_s"] = self.size / result["seconds"] / 1e6
        result["server_cpu_s"] = self.oss.cpu_s() - served
        result["hub_cpu_s"] = self.hub.cpu_s() - fed
        used = result["cpu_s"] + result["server_cpu_s"] + result["hub_cpu_s"]
        result["busy"] = used / result["seconds"] / (os.cpu_count() or 1)
        for leftover in (state, self.folder / "oss" / BUCKET, self.disk / "download"):
            shutil.rmtree(leftover, ignore_errors=True)
        (self.folder / "oss" / BUCKET).mkdir(parents=True)
        return result


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """Run every sender once a round; the best of its runs counts, since noise only slows."""
    v2 = os.environ.get("QWENKIT_OSS_V2_PYTHON", "")
    senders, streams = _senders(bench, v2), _streams(bench)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in senders | streams}
    for _ in range(rounds):
        for name, run in (senders | streams).items():
            runs[name].append(run())
    # Last, once: the servers' first run is slower, and these are bound by the networks.
    limited = {name: run() for name, run in _streams(bench, limited=True).items()}
    best = {name: min(found, key=lambda run: float(run["seconds"])) for name, found in runs.items()}
    result = {
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "size_bytes": bench.size,
        "rounds": rounds,
        "folder_is_memory": str(bench.folder).startswith("/dev/shm"),
        "oss_v2": "measured" if v2 else "absent",
        "senders": {name: best[name] for name in senders},
        "hub": {name: best[name] for name in streams},
        "limited": {"mb_per_s_each": bench.limit_mb_s, **limited},
        "load_average": os.getloadavg(),
    }
    ratios = _ratios(result["senders"], result["hub"])
    return result | {"ratios": ratios | {"stream_over_disk_limited": _over_disk(limited)}}


def _senders(bench: Bench, v2: str) -> dict[str, Callable[[], dict[str, Any]]]:
    jobs = {"qwenkit": partial(bench.run, "qwenkit", source=str(bench.file.parent))}
    for threads in (1, 2, 3, 4):
        jobs[f"bare, {threads} threads"] = partial(bench.run, "bare", threads=threads)
    for threads in (1, 4, 8):
        jobs[f"oss2, {threads} threads"] = partial(bench.run, "oss2", threads=threads)
    if v2:
        tuned = {"parallel_num": 4, "part_size": PART}
        jobs["oss-v2, defaults"] = partial(bench.run, "oss-v2", v2, tuning={})
        jobs["oss-v2, tuned"] = partial(bench.run, "oss-v2", v2, tuning=tuned)
    return jobs


def _streams(bench: Bench, *, limited: bool = False) -> dict[str, Callable[[], dict[str, Any]]]:
    def stream() -> dict[str, Any]:
        made = bench.run("qwenkit", limited=limited, source=f"modelscope:{MODEL}")
        return made | {"disk_bytes": 0}

    def by_disk() -> dict[str, Any]:
        return bench.run("download then upload", limited=limited) | {"disk_bytes": bench.size}

    return {"stream": stream, "download then upload": by_disk}


def _ratios(senders: dict[str, Any], streams: dict[str, Any]) -> dict[str, float | None]:
    def best(start: str) -> float | None:
        found = [one["mb_per_s"] for name, one in senders.items() if name.startswith(start)]
        return max(found) if found else None

    ours = senders["qwenkit"]["mb_per_s"]
    wanted = {"of_the_ceiling": "bare", "times_oss2": "oss2", "times_oss_v2": "oss-v2"}
    ratios = {
        name: ours / rate if (rate := best(start)) else None for name, start in wanted.items()
    }
    return ratios | {"stream_over_disk": _over_disk(streams)}


def _over_disk(streams: dict[str, Any]) -> float:
    return float(streams["stream"]["seconds"] / streams["download then upload"]["seconds"])


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
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many runs counts")
    parser.add_argument("--limit-mb-s", type=float, default=100, help="of hub and of bucket each")
    parser.add_argument("--json", action="store_true", help="the output is JSON in any case")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve[0], Path(arguments.serve[1]), arguments.limit_mb_s * 1e6)
    else:
        folder = workplace(arguments.size)
        try:
            with contextlib.closing(Bench(folder, arguments.size, arguments.limit_mb_s)) as bench:
                result = measure(bench, arguments.rounds)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
