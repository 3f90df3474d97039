"""Run the course's storage chapters with each kind of storage on a sandbox, and judge each end.

Preflight, upload, volume, deployment, query and teardown, by ``qwenkit run``: all notebooks must
pass, and the leak audit must find nothing. Exit 1 if one does not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHAPTERS = "00,01,02,03,04,90"
KINDS = {
    "a claim that a Job fills": ("storage=pvc",),
    "a NAS": ("storage=nas", "nas_server=a-b.cn-hangzhou.nas.aliyuncs.com"),
    "OSS by a RAM role": ("oss_auth=rrsa", "rrsa_role=qwen-reader"),
    "OSS by ossfs 1": ("fuse_type=ossfs",),
}


def run(values: tuple[str, ...], output: str) -> tuple[bool, str]:
    """Run the chapters; return whether all passed, and the line that says so."""
    given = [word for value in values for word in ("--set", value)]
    params = str(ROOT / "notebooks" / "params" / "sandbox.yaml")
    command = ["run", "-p", params, "--only", CHAPTERS, "--output", output, *given]
    done = subprocess.run(
        [sys.executable, "-m", "qwenkit", *command], cwd=ROOT, capture_output=True, text=True
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    failed = [line for line in lines if "FAILED" in line or "leaked" in line]
    ended = [line for line in lines if line.startswith("course:")]
    return done.returncode == 0, " | ".join(failed or ended or lines[-1:])


def main() -> int:
    """Print a line for each kind; return 1 if one failed."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    bad = 0
    for name, values in KINDS.items():
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as output:
            passed, said = run(values, output)
        bad += not passed
        verdict = "good" if passed else "BAD"
        print(f"{name:26}{time.monotonic() - began:5.0f} s  {verdict:5}{said}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
