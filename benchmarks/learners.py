"""What does each learner of a shared JupyterHub take? Memory, CPU and disk, as JSON.

``python benchmarks/learners.py [--learners 2] [--chapters 00-04] [--json]`` starts a lab with a
sandbox for each learner, as a hub does, runs the chapters in all of them at once, one kernel a
chapter, and leaves all of them open. Memory is proportional (what processes share counts once).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
import websocket

ROOT = Path(__file__).parents[1]
IDLE_S = 30


@dataclass
class Learner:
    """One lab: its home, its process, and its address once it answers."""

    home: Path
    child: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        """What the lab prints."""
        return self.home / "log"

    def address(self) -> str:
        """Wait for the address that it prints."""
        while self.child.poll() is None:
            if found := re.search(r"^lab: (\S+)/qwenkit", self.log.read_text(), re.MULTILINE):
                return found[1]
            time.sleep(0.1)
        raise SystemExit(self.log.read_text())

    def processes(self) -> dict[str, psutil.Process]:
        """Return the processes by what they are: the sandbox is a process of its own."""
        whole = psutil.Process(self.child.pid)
        found = {"lab": whole}
        for number, one in enumerate(whole.children(recursive=True)):
            kind = "kernel" if "ipykernel_launcher" in " ".join(one.cmdline()) else "server"
            found[f"{kind} {number}"] = one
        return found | {"sandbox": psutil.Process(self.state()["pid"])}

    def state(self) -> dict[str, Any]:
        """Return the state of its sandbox."""
        read: dict[str, Any] = json.loads((self.home / ".qwenkit/sandbox/sandbox.json").read_text())
        return read

    def seconds(self) -> float:
        """Return the CPU seconds that its processes have used."""
        times = [one.cpu_times() for one in self.processes().values()]
        return sum(one.user + one.system for one in times)

    def figures(self) -> dict[str, Any]:
        """Return what it takes now, in MiB, by kind of process, and its disk."""
        taken: dict[str, list[float]] = {}
        for name, process in self.processes().items():
            taken.setdefault(name.split()[0], []).append(process.memory_full_info().pss / 2**20)
        files = [one for one in self.home.rglob("*") if one.is_file() and not one.is_symlink()]
        return {
            "memory_mib": round(sum(map(sum, taken.values()))),
            "memory_mib_of": {name: [round(one) for one in each] for name, each in taken.items()},
            "disk_mib": round(sum(one.stat().st_size for one in files) / 2**20, 1),
        }


def start(home: Path) -> Learner:
    """Start a lab; a token of no letters lets the benchmark in, on loopback."""
    home.mkdir()
    options = ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    command = [sys.executable, "-m", "qwenkit", "lab", "--no-browser", "--port", "0", "--"]
    env = os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT), "QWENKIT_LANG": "en"}
    with (home / "log").open("wb") as out:
        child = subprocess.Popen([*command, *options], env=env, cwd=ROOT, stdout=out, stderr=out)
    return Learner(home, child)


def run_chapter(address: str, notebook: Path) -> None:
    """Run the code cells of a notebook in a kernel of the lab, which stays."""
    answer = requests.post(f"{address}/api/kernels", json={"name": "python3"}, timeout=60)
    answer.raise_for_status()
    channel = f"{address.replace('http', 'ws', 1)}/api/kernels/{answer.json()['id']}/channels"
    socket = websocket.create_connection(channel, timeout=300)
    try:
        for cell in json.loads(notebook.read_text())["cells"]:
            if cell["cell_type"] == "code":
                _execute(socket, "".join(cell["source"]), f"{notebook.name}")
    finally:
        socket.close()


def _execute(socket: websocket.WebSocket, code: str, where: str) -> None:
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "date": ""}
    header |= {"session": "s", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
    content |= {"allow_stdin": False, "stop_on_error": True}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    socket.send(json.dumps(message | {"channel": "shell", "buffers": []}))
    while True:
        got = json.loads(socket.recv())
        if got["parent_header"].get("msg_id") == header["msg_id"] and (
            got["msg_type"] == "execute_reply"
        ):
            if got["content"]["status"] != "ok":
                raise SystemExit(f"{where}: {got['content'].get('evalue')}\n{code}")
            return


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learners", type=int, default=2)
    parser.add_argument("--chapters", default="00-04")
    parser.add_argument("--json", action="store_true", help="as ever")
    options = parser.parse_args()
    first, _, last = options.chapters.partition("-")
    books = sorted(ROOT.glob("notebooks/[0-9][0-9]-*.ipynb"))
    books = [one for one in books if first <= one.name[:2] <= (last or first)]
    with tempfile.TemporaryDirectory(prefix="qwenkit-learners-") as place:
        learners = [start(Path(place) / f"learner-{n + 1}") for n in range(options.learners)]
        try:
            with ThreadPoolExecutor(len(learners)) as pool:
                addresses = list(pool.map(Learner.address, learners))
                began = [one.figures() | {"cpu_s": round(one.seconds(), 1)} for one in learners]
                began_at = time.monotonic()
                for book in books:
                    list(pool.map(run_chapter, addresses, [book] * len(learners)))
                chapters_s = time.monotonic() - began_at
            ended = [one.figures() | {"cpu_s": round(one.seconds(), 1)} for one in learners]
            before = [one.seconds() for one in learners]
            time.sleep(IDLE_S)
            idle = [one.seconds() - was for one, was in zip(learners, before, strict=True)]
            urls = [one.state()[name] for one in learners for name in ("api", "gateway", "oss")]
        finally:
            for one in learners:
                one.child.terminate()
            for one in learners:
                one.child.wait(60)
    shown = {
        "learners": options.learners,
        "chapters": [one.name[:2] for one in books],
        "each_at_start": began,
        "each_after_the_chapters": ended,
        "chapters_s": round(chapters_s, 1),
        "idle_cpus_each": [round(one / IDLE_S, 3) for one in idle],
        "addresses_differ": len(set(urls)) == len(urls),
        "cpus": os.cpu_count(),
    }
    print(json.dumps(shown, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
