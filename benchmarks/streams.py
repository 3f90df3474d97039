"""How much CPU and memory do many streams at once cost the sandbox? Prints JSON.

    python benchmarks/streams.py --clients 200 --seconds 60

It starts its own sandbox, and deploys and loads with the project's commands, as a user does: each
client sends its next streamed request when the last one has ended. Its processes are measured
with ``ps``: CPU while the load runs, memory before it and after. Exit 1 if any stream failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SOURCE = "modelscope:qwen/Qwen-7B-Chat-Int8"
_CLOCK = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")


def qwenkit(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run a command of the project and return what it printed."""
    command = [sys.executable, "-m", "qwenkit", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def environment(root: str) -> dict[str, str]:
    """Return the environment that the sandbox's ``env`` asks for."""
    exports = re.findall(r"export (\w+)='?([^'\n]*)'?", qwenkit("sandbox", "env", "--root", root))
    return {**os.environ, **dict(exports)}


def measured(pid: int) -> tuple[float, float]:
    """Return a process's CPU seconds and its resident MiB."""
    command = ["ps", "-o", "time=,rss=", "-p", str(pid)]
    clock, kib = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    found = _CLOCK.fullmatch(clock)
    if found is None:
        raise SystemExit(f"ps printed {clock!r} for a time")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds, int(kib) / 1024


def run(root: str, *, clients: int, seconds: float, tokens: int, scale: float) -> dict[str, Any]:
    """Deploy, load, and return the figures."""
    env = environment(root)
    qwenkit("upload", SOURCE, f"oss://{env['OSS_BUCKET']}/Qwen-7B-Chat-Int8", env=env)
    pods = ["--set", "min_scale=3", "--set", "max_scale=3"]
    qwenkit("deploy", *pods, env=env)
    pid = json.loads(Path(root, "sandbox.json").read_text())["pid"]
    cpu_before, memory_before = measured(pid)
    amount = ["--clients", str(clients), "--seconds", str(seconds), "--max-tokens", str(tokens)]
    load = json.loads(qwenkit("load", *amount, "--json", env=env))
    cpu, memory = measured(pid)
    return {
        "clients": clients,
        "time_scale": scale,
        "load": load,
        "sandbox_cpu_percent": round(100 * (cpu - cpu_before) / load["seconds"], 1),
        "sandbox_rss_mib": {"before": round(memory_before, 1), "after": round(memory, 1)},
        "load_average": os.getloadavg()[0],
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--max-tokens", type=int, default=60)
    parser.add_argument("--time-scale", type=float, default=1.0)
    parser.add_argument("--json", action="store_true", help="the output is JSON in any case")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, scale = str(Path(folder) / "sandbox"), given.time_scale
        qwenkit("sandbox", "up", "--detach", "--root", root, "--time-scale", str(scale))
        try:
            found = run(
                root,
                clients=given.clients,
                seconds=given.seconds,
                tokens=given.max_tokens,
                scale=scale,
            )
        finally:
            qwenkit("sandbox", "down", "--root", root)
    print(json.dumps(found, indent=2))
    return 1 if found["load"]["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
