"""``qwenkit run`` as a process, and the summary that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "qwenkit" / "course" / "summary.schema.json").read_text("utf-8"))
PARAMS = ROOT / "notebooks" / "params" / "sandbox.yaml"


def start(output, *words):
    command = [sys.executable, "-m", "qwenkit", "run", "-p", str(PARAMS), "--output", str(output)]
    return subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(running, timeout=400):
    out, err = running.communicate(timeout=timeout)
    return out, err


def summary(output):
    (folder,) = [path for path in output.iterdir() if path.is_dir()]
    found = json.loads((folder / "summary.json").read_text("utf-8"))
    Draft202012Validator(SCHEMA).validate(found)
    return folder, found
