"""Run the steps of the course with a real vLLM in the sandbox's pods; print the results as JSON.

``QWENKIT_VLLM=/path/to/vllm .venv/bin/python tools/check_real_vllm.py``: up, upload, deploy, the
documentation's request, a second revision with two pods beside the first, teardown, down. Needs
about 3 GB for each of the three pods, and minutes: each start of vLLM takes half a minute of CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from qwenkit.sandbox import process, state_files

REQUEST = {
    "model": "qwen",
    "messages": [{"role": "user", "content": "杭州西湖"}],
    "max_tokens": 10,
    "temperature": 0.7,
    "top_p": 0.9,
    "seed": 10,
}


class CourseRun:
    """One sandbox, and the results of the steps in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.results = root, dict[str, Any]()

    def timed(self, name: str, what: Callable[[], Any]) -> Any:
        """Run a step and record its seconds."""
        begun = time.monotonic()
        found = what()
        self.results[f"{name}_seconds"] = round(time.monotonic() - begun, 1)
        return found

    def qwenkit(self, *words: str) -> str:
        """Run a command of qwenkit against the sandbox."""
        done = subprocess.run(
            [sys.executable, "-m", "qwenkit", *words],
            env=os.environ | process.environment(self.root),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def ask(self, deployed: dict[str, Any]) -> dict[str, Any]:
        """Send the documentation's request through the gateway."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                f"{deployed['gateway']}/v1/chat/completions",
                json=REQUEST,
                headers={"Host": deployed["host"]},
                timeout=600,
            )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def megabytes(self) -> list[int]:
        """Return the resident memory of each pod's processes."""
        shown = subprocess.run(
            ["ps", "-axww", "-o", "pgid=,rss=,command="], capture_output=True, text=True, check=True
        )
        rows = [line.split(None, 2) for line in shown.stdout.splitlines()]
        groups = {pgid for pgid, _, command in rows if f"{self.root}/programs" in command}
        return [sum(int(rss) for pgid, rss, _ in rows if pgid == one) // 1024 for one in groups]


def run_course(root: Path) -> dict[str, Any]:
    """Run all steps once."""
    one = CourseRun(root)
    state = one.timed("up", lambda: process.up(root, state_files.SandboxOptions(engine="vllm")))
    one.results["vllm"] = state.options.vllm_version
    try:
        target = f"oss://{state_files.BUCKET}/Qwen-7B-Chat-Int8"
        one.timed(
            "upload", lambda: one.qwenkit("upload", "modelscope:qwen/Qwen-7B-Chat-Int8", target)
        )
        deployed = json.loads(one.timed("deploy", lambda: one.qwenkit("deploy", "--json")))
        answer = one.timed("first_answer", lambda: one.ask(deployed))
        one.timed("second_answer", lambda: one.ask(deployed))
        one.results["content"] = answer["choices"][0]["message"]["content"]
        one.results["finish_reason"] = answer["choices"][0]["finish_reason"]
        one.results["usage"] = {
            name: count for name, count in answer["usage"].items() if isinstance(count, int)
        }
        one.results["query"] = one.qwenkit("query", "杭州西湖").strip()
        more = ("deploy", "--json", "--set", "min_scale=2")
        deployed = json.loads(one.timed("two_pods", lambda: one.qwenkit(*more)))
        one.results["revision"], one.results["pods_mb"] = deployed["revision"], one.megabytes()
        one.timed("answer_of_two", lambda: one.ask(deployed))
        one.timed("teardown", lambda: one.qwenkit("teardown"))
    finally:
        one.timed("down", lambda: process.down(root))
    one.results["left_processes"] = len(one.megabytes())
    return one.results


def main() -> None:
    """Print the results; fail if a step failed or a process is left."""
    with tempfile.TemporaryDirectory() as folder:
        results = run_course(Path(folder).resolve() / "root")
    sys.stdout.write(json.dumps(results, ensure_ascii=False, indent=2) + "\n")
    sys.exit(1 if results["left_processes"] else 0)


if __name__ == "__main__":
    main()
