"""The surroundings of ``kills.py``: a private home with a sandbox, and what is wrong there."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from qwenkit.sandbox import process
from qwenkit.sandbox.state_files import BUCKET

ROOT = Path(__file__).parents[1]
PARAMS = str(ROOT / "notebooks" / "params" / "sandbox.yaml")
MODEL, PREFIX = "qwen/kills", "kills"
MARK = "KILLS_MARK"
UP = ("sandbox", "up", "--detach", "--time-scale", "50")
TEARDOWN = ("teardown", "--delete-weights", "--yes", "--json", "--set", f"prefix={PREFIX}")
_PADDING = 24 * 2**20
_LIMIT_S = 900  # a whole course, on a busy machine
# What a person must wait for at most until all that a killed command started has ended.
_GONE_S = 30
_KINDS = "ksvc,deployments,replicasets,pods,jobs,secrets,configmaps,pvc,pv,services"

Problems = list[str]


@dataclass
class Place:
    """A private home, temporary folder and sandbox; ``mark`` is in each process's environment."""

    folder: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        for path in (self.home, self.temporary):
            path.mkdir()

    @property
    def home(self) -> Path:
        """The HOME of all commands."""
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        """Their TMPDIR."""
        return self.folder / "tmp"

    @property
    def root(self) -> Path:
        """The sandbox's folder."""
        return self.folder / "root"

    @property
    def runs(self) -> Path:
        """Where courses write their reports."""
        return self.folder / "runs"

    def environment(self, *, target: bool = True) -> dict[str, str]:
        """Return the variables of a command; ``target``: those of the running sandbox, too."""
        ours = ("QWENKIT_", "OSS_", "HF_", "MODELSCOPE_", "KUBECONFIG")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        kept |= {"HOME": str(self.home), "TMPDIR": str(self.temporary), MARK: self.mark}
        kept["KUBECONFIG"] = str(self.folder / "none")
        if target:
            kept |= process.environment(self.root)
        return kept

    def start(self, *words: str, target: bool = True) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "qwenkit", *words],
            cwd=ROOT,
            env=self.environment(target=target),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self, *words: str, target: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "qwenkit", *words],
            cwd=ROOT,
            env=self.environment(target=target),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )

    def must(self, *words: str, target: bool = True) -> Problems:
        """Run a command; return what is wrong if it fails."""
        done = self.run(*words, target=target)
        if done.returncode == 0:
            return []
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        return [f"{' '.join(words[:3])}: exit {done.returncode}: {' | '.join(said)}"]

    def up(self) -> Problems:
        """Start the sandbox and put a model with one large file into its hub."""
        found = self.must(*UP, "--root", str(self.root), target=False)
        folder = self.root / "hub" / MODEL
        if not found and not folder.exists():
            shutil.copytree(self.root / "hub" / "qwen" / "Qwen-7B-Chat-Int8", folder)
            (folder / "padding.bin").write_bytes(random.Random(1).randbytes(_PADDING))
        return found

    def down(self) -> Problems:
        """End the sandbox; nothing of it may stay."""
        shutil.rmtree(self.root / "hub" / MODEL, ignore_errors=True)  # ours, not the sandbox's
        found = self.must("sandbox", "down", "--root", str(self.root), target=False)
        return found + ([f"{self.root} stays"] if self.root.exists() else [])

    def processes(self) -> list[str]:
        """Return the command lines of what runs here, but for the sandbox that shall run."""
        shown = []
        for one in psutil.process_iter():
            with suppress(psutil.Error):
                line = " ".join(one.cmdline())
                ours = one.environ().get(MARK) == self.mark or str(self.folder) in line
                if ours and f"qwenkit.sandbox {self.root} " not in line and one.is_running():
                    shown.append(f"process {one.pid}: {line[:90]}")
        return shown

    def bucket(self) -> dict[str, str]:
        """Return the sha256 of each object under our prefix, read from the sandbox's disk."""
        folder = self.root / "oss" / BUCKET / PREFIX
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in paths}

    def source(self) -> dict[str, str]:
        """Return the sha256 of each file of the model."""
        folder = self.root / "hub" / MODEL
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in paths}


def equal_bytes(place: Place) -> Problems:
    """Every object equals its source, and nothing but the manifest is beside them."""
    found, wanted = place.bucket(), place.source()
    found.pop("qwenkit.json", None)
    wrong = [name for name in sorted(found.keys() | wanted) if found.get(name) != wanted.get(name)]
    return [f"bytes differ: {', '.join(wrong)}"] if wrong else []


def torn_down(place: Place) -> Problems:
    """After a teardown the audit is empty, and cluster and bucket really are."""
    done = place.run(*TEARDOWN)
    try:
        leaks = json.loads(done.stdout)["leaks"]
    except (ValueError, KeyError):
        return [f"teardown: exit {done.returncode}: {done.stderr.strip()[-300:]}"]
    found = [f"audit: {one}" for one in leaks["found"]]
    if done.returncode:
        found.append(f"teardown: exit {done.returncode}")
    shown = subprocess.run(
        [
            "kubectl",
            "get",
            _KINDS,
            "-A",
            "-o",
            "name",
            "-l",
            "app.kubernetes.io/managed-by=qwenkit",
        ],
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found += [f"not in the audit: {name}" for name in shown.stdout.split()]
    found += [f"not in the audit: oss {name}" for name in place.bucket()]
    uploads = place.root / "oss" / ".qwenkit" / "uploads"
    return found + [f"not in the audit: multipart {one.name}" for one in uploads.iterdir()]


def left(place: Place) -> Problems:
    """Name processes, temporary folders, held locks and ids of dead processes that stay."""
    deadline = time.monotonic() + _GONE_S
    while (found := _left(place)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _left(place: Place) -> Problems:
    found = place.processes()
    found += [f"temporary: {path.name}" for path in place.temporary.iterdir()]
    found += [f"socket: {path}" for path in (ROOT / "notebooks").iterdir() if path.is_socket()]
    for path in (*place.runs.rglob(".qwenkit-lock"), *place.home.rglob("*.lock")):
        try:
            with FileLock(path, blocking=False):
                pass
        except Timeout:
            found.append(f"held: {path}")
    for path in (*place.runs.rglob(".qwenkit-pid"), *place.folder.glob("root/pid")):
        with suppress(OSError, ValueError):
            if not psutil.pid_exists(int(path.read_text())):
                found.append(f"id of a dead process: {path}")
    return found
