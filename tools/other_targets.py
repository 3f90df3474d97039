"""Run the course for other models, cards and targets than the page's, on sandboxes of its own.

    .venv/bin/python tools/other_targets.py [NAME …]

Each row is one `qwenkit run` with nothing else set than what it shows. Some minutes; ends with 1
if a row failed, whose report stays.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARAMS = "notebooks/params"
SHORT = ("--only", "00,01,02,03,04,90")
SANDBOX = ("-p", f"{PARAMS}/sandbox.yaml")
TINY = "qwenkit/sandbox/models/qwen3"  # made by tools/train_tiny_model.py


def _short(**settings: str) -> tuple[str, ...]:
    """Return a run up to the first answer, and its teardown."""
    return (*SANDBOX, *SHORT, *_set(**settings))


def _set(**settings: str) -> tuple[str, ...]:
    return tuple(word for name, value in settings.items() for word in ("--set", f"{name}={value}"))


def _whole(name: str, **settings: str) -> tuple[str, ...]:
    """Return the whole course with a real target's parameters, hurried up."""
    more = _set(time_scale="10", **settings)
    return ("-p", f"{PARAMS}/{name}.yaml", "--context", "sandbox", *more)


TARGETS: dict[str, tuple[str, ...]] = {
    "kind": _whole("kind"),  # the sandbox is then without GPU and OSS driver, as kind is
    "ack-qwen3": _whole("ack-qwen3", stable_window="10s", delete_weights="true"),
    "qwen3": _short(model_source="modelscope:Qwen/Qwen3-0.6B"),
    "folder": _short(model_source=TINY),
    "a10": _short(model_source="hf:Qwen/Qwen3-8B", gpu="A10"),
    "t4": _short(model_source="modelscope:Qwen/Qwen2.5-1.5B-Instruct", gpu="T4"),
    "awq": _short(model_source="modelscope:Qwen/Qwen2.5-14B-Instruct-AWQ", gpu="L20"),
    "two-gpus": _short(model_source="modelscope:Qwen/Qwen3-32B", gpu="L20", gpu_count="2"),
    "llama": _short(model_source="modelscope:LLM-Research/Meta-Llama-3-8B-Instruct", gpu="A10"),
}


def run(name: str, folder: Path) -> bool:
    """Run one; print its row."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "qwenkit", "run", *TARGETS[name], "--output", str(folder / name)],
        cwd=ROOT,
        # No sandbox that runs here already is used.
        env={**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    last = done.stdout.strip().rpartition("\n")[2]
    print(f"{'passed' if not done.returncode else 'FAILED'} {name:10} {seconds:5.0f} s  {last}")
    if done.returncode:
        print("\n".join(f"    {line}" for line in done.stdout.strip().splitlines()[-25:]))
    sys.stdout.flush()
    return not done.returncode


def main() -> None:
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    names = parser.parse_args().names or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        passed = [run(name, Path(made)) for name in names]
    print(f"{sum(passed)} of {len(passed)} passed")
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
