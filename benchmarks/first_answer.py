"""How long from a bare clone to the first answer of the model? The seconds of each step, as JSON.

``python benchmarks/first_answer.py [--json]`` clones this repository into a temporary folder,
installs it there, starts a sandbox, uploads, deploys and asks. uv is used where it is on the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOAL_S = 180.0
MODEL = "modelscope:qwen/Qwen-7B-Chat-Int8"


def main() -> int:
    """Print the seconds; exit 1 if there was no answer."""
    with tempfile.TemporaryDirectory(prefix="qwenkit-first-answer-") as place:
        folder = Path(place) / "qwenkit"
        qwenkit, root = str(folder / ".venv/bin/qwenkit"), str(Path(place) / "root")
        load, seconds, env = os.getloadavg()[0], dict[str, float](), dict(os.environ)
        for name in ("PYTHONPATH", "KUBECONFIG", "VIRTUAL_ENV", "MAKEFLAGS"):
            env.pop(name, None)

        def step(name: str, *command: str) -> str:
            began = time.monotonic()
            done = subprocess.run(
                command, cwd=folder if folder.exists() else None, env=env, text=True,
                stdout=subprocess.PIPE, stderr=sys.stderr, check=True,
            )  # fmt: skip
            seconds[name] = round(time.monotonic() - began, 1)
            return done.stdout

        answer = ""
        try:
            step("clone", "git", "clone", "--quiet", str(ROOT), str(folder))
            step("install", "make", "install", f"PYTHON={sys.executable}")
            step("sandbox", qwenkit, "sandbox", "up", "--detach", "--root", root)
            env |= json.loads(
                step("environment", str(folder / ".venv/bin/python"), "-c", _ENV, root)
            )
            step("upload", qwenkit, "upload", MODEL, f"oss://{env['OSS_BUCKET']}/Qwen-7B-Chat-Int8")
            step("deploy", qwenkit, "deploy")
            answer = step("query", qwenkit, "query", "杭州西湖", "--max-tokens", "10").strip()
        except subprocess.CalledProcessError as error:
            print(f"{error.cmd} ended with {error.returncode}", file=sys.stderr)
        finally:
            if Path(qwenkit).exists():
                down = [qwenkit, "sandbox", "down", "--root", root]
                subprocess.run(down, env=env, stdout=sys.stderr, check=False)
    total = round(sum(seconds.values()), 1)
    shown = {"total_s": total, "goal_s": GOAL_S, "reached": bool(answer) and total <= GOAL_S}
    shown |= {"seconds": seconds, "installer": "uv" if shutil.which("uv") else "pip"}
    shown |= {"load_before": round(load, 1), "cpus": os.cpu_count(), "answer": answer}
    print(json.dumps(shown, ensure_ascii=False, indent=1))
    return 0 if answer else 1


_ENV = """
import json, pathlib, sys
from qwenkit.sandbox import process
print(json.dumps(process.environment(pathlib.Path(sys.argv[1]))))
"""

if __name__ == "__main__":
    sys.exit(main())
