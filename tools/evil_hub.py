"""What does `qwenkit upload` do with a hub that is evil? Every answer, both hubs, its own process.

    python tools/evil_hub.py [NAME ...] [--json] [--jobs N] [--quick]

A row is good if the command ends with exit code 1 and one typed error that says why and what to
do, within the bounds: seconds, and megabytes of the largest resident set. Slow rows wait for the
real limits (20 s below the least rate, 30 s of silence, and their retries). Exit code 1 if a row is
bad. The answers are in tests/support/evil/answers.py; the tests ask each quick one once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from evil.answers import ROWS  # noqa: E402
from evil.hub import Evil, evil_hub  # noqa: E402
from servers import Servers  # noqa: E402

from qwenkit.sandbox.oss.server import OssServer  # noqa: E402

QUICK_S, SLOW_S = 60.0, 180.0
LARGEST_MB = 512
TOKEN, SECRET = "evil-token-4711", "evil-secret-4711"


@dataclass(frozen=True)
class Row:
    """One answer from one hub, and how the command ended."""

    name: str
    hub: str
    error: str
    seconds: float
    peak_mb: float
    bad: str

    def __str__(self) -> str:
        line = (
            f"{self.name:24} {self.hub:10} {self.error:14} {self.seconds:6.1f} {self.peak_mb:6.0f}"
        )
        return f"{line}  {self.bad or 'good'}"


def measured(oss: str, work: Path, row: tuple[Evil, str]) -> Row:
    """Run the command against one evil hub."""
    evil, kind = row
    out, err = (work / f"{evil.name}-{kind}.{part}" for part in ("out", "err"))
    with evil_hub(evil) as hub, out.open("wb") as stdout, err.open("wb") as stderr:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(work / f"{evil.name}-{kind}"),
            "OSS_ENDPOINT": oss,
            "OSS_REGION": "cn-hangzhou",
            "OSS_ACCESS_KEY_ID": "evil",
            "OSS_ACCESS_KEY_SECRET": SECRET,
            "QWENKIT_MODELSCOPE_ENDPOINT": hub.url,
            "QWENKIT_HF_ENDPOINT": hub.url,
            "MODELSCOPE_API_TOKEN": TOKEN,
            "HF_TOKEN": TOKEN,
        }
        if evil.limit_s:
            environment["QWENKIT_UPLOAD_TIMEOUT_S"] = str(evil.limit_s)
        command = [sys.executable, "-m", "qwenkit", "upload", f"{kind}:a/b", "--json"]
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, f"oss://weights/{evil.name}/{kind}"],
            env=environment, cwd=work, stdout=stdout, stderr=stderr,
        )  # fmt: skip
        limit_s = SLOW_S if evil.slow else QUICK_S
        status, peak_mb = ended(process, limit_s)
        seconds = time.monotonic() - began
        leaked = bool(hub.leaked)
    text = out.read_text(errors="replace") + err.read_text(errors="replace")
    error = found(out.read_text(errors="replace"))
    kinds = evil.errors or ("",)
    wrong = {
        f"not ended within {limit_s:.0f} s": status < 0,
        "a traceback": "Traceback" in text,
        "a secret": TOKEN in text or SECRET in text or leaked,
        f"not {' or '.join(kinds) or 'complete'}": error.get("error", "") not in kinds,
        f"does not say {evil.says!r}": evil.says not in str(error),
        "no why": bool(error) and not error.get("why"),
        "no fix": bool(error) and not error.get("fix"),
        f"exit code {status}": status != (1 if evil.errors else 0),
        f"more than {LARGEST_MB} MB": peak_mb > LARGEST_MB,
    }
    bad = "; ".join(what for what, is_so in wrong.items() if is_so)
    return Row(evil.name, kind, str(error.get("error", "")), seconds, peak_mb, bad)


def ended(process: subprocess.Popen[bytes], limit_s: float) -> tuple[int, float]:
    """Wait for the process, and kill it after the limit; return exit status and peak in MB."""
    ends, peak_mb = time.monotonic() + limit_s, 0.0
    while True:
        # Not ru_maxrss, where there is /proc: it begins with the memory of this program.
        with suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak_mb = next(
                (int(line.split()[1]) / 1024 for line in status.splitlines() if "VmHWM" in line),
                peak_mb,
            )
        pid, code, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(code)
            unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
            return process.returncode, peak_mb or usage.ru_maxrss / unit
        if time.monotonic() > ends:
            process.kill()
        time.sleep(0.01)


def found(text: str) -> dict[str, object]:
    """Return the error that the command printed; empty if it printed a report."""
    for line in text.splitlines():
        try:
            answer = json.loads(line)
        except ValueError:
            continue
        if isinstance(answer, dict) and "error" in answer:
            return answer
    return {}


def main() -> int:
    """Ask all, print the table, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="rows whose name starts so; default all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="leave out the slow rows")
    parser.add_argument("--jobs", type=int, default=3, help="commands at once")
    given = parser.parse_args()
    starts = tuple(given.names) or ("",)
    rows = [row for row in ROWS if row[0].name.startswith(starts)]
    rows = sorted((r for r in rows if not (given.quick and r[0].slow)), key=lambda r: not r[0].slow)
    servers, done = Servers(), []
    try:
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.jobs) as pool:
            keys = {"evil": SECRET}
            oss = servers.serve(OssServer(Path(folder, "oss"), keys, buckets=["weights"]).app())
            for row in pool.map(partial(measured, oss, Path(folder)), rows):
                done.append(row)
                if not given.json:
                    print(row, flush=True)
    finally:
        servers.close()
    bad = [row for row in done if row.bad]
    bound = {
        "rows": len(done),
        "bad": len(bad),
        "longest_s": round(max((row.seconds for row in done), default=0), 1),
        "largest_mb": round(max((row.peak_mb for row in done), default=0)),
        "limits": {"quick_s": QUICK_S, "slow_s": SLOW_S, "mb": LARGEST_MB},
    }
    if given.json:
        print(json.dumps(bound | {"table": [asdict(row) for row in done]}))
    else:
        print(
            f"evil hub: {len(done) - len(bad)}/{len(done)} rows good; longest "
            f"{bound['longest_s']} s, largest {bound['largest_mb']} MB (bound {LARGEST_MB} MB)"
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
