"""Write wheels.txt anew: the Python packages that the browser gets, with their hashes.

    build/site-cache/venv/bin/python tools/site/pin.py

Which, and which versions, says Pyodide's own list; it names its own builds, so that the hashes are
taken here from what the registry has. Run it when the kernel in requirements.txt names another
Pyodide, after pyodide.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import environment
from browser import _hash, _plain

# What the kernel and micropip import; the panel's packages have the versions of constraints.txt.
WANTED = ("micropip", "packaging", "ipython", "jedi")
COURSE = ("comm", "ipywidgets", "jupyterlab_widgets")


def closure(packages: dict[str, dict[str, object]], *names: str) -> dict[str, str]:
    """Return packages with all that they depend on, and their versions."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        each = packages[_plain(waiting.pop())]
        if _plain(str(each["name"])) not in found:
            found[_plain(str(each["name"]))] = str(each["version"])
            waiting += list(each["depends"])  # type: ignore[call-overload]
    return found


def main() -> None:
    """Download the packages and write their hashes."""
    lock = json.loads((environment.pyodide() / "pyodide-lock.json").read_text("utf-8"))
    wanted = closure({_plain(name): each for name, each in lock["packages"].items()}, *WANTED)
    for line in (environment.ROOT / "constraints.txt").read_text("utf-8").splitlines():
        name, _, version = line.partition("==")
        if name in COURSE:
            wanted[_plain(name)] = version
    lines = ["# The Python packages of the browser. Made by: python tools/site/pin.py"]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    pip += ["--python-version", environment.PYTHON_IN_BROWSER]
    for name, version in sorted(wanted.items()):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([*pip, "-d", folder, f"{name}=={version}"], check=True)
            (path,) = Path(folder).iterdir()
            lines.append(f"{name}=={version} --hash=sha256:{_hash(path)}")
    (environment.HERE / "wheels.txt").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
