"""Install the project and its lock into a virtual environment, with a line every few seconds.

``python tools/install.py .venv course,sandbox,dev`` takes uv where it is on the PATH, else pip, and
``constraints.txt`` either way. It needs nothing but Python.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

LOCK = "constraints.txt"
EVERY_S = 3.0
# What pip is configured with, for uv: a mirror, a company's authority.
AS_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
}
_OPTION = re.compile(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", re.MULTILINE)


def main(folder: str, extras: str) -> int:
    """Install; return the exit code of what failed, 0 if nothing did."""
    venv, what = Path(folder), ["install", "-c", LOCK, "-e", f".[{extras}]"]
    python = venv / "bin" / "python"
    if not (python.exists() and (venv / "bin" / "pip").exists()):
        say(f"making {venv} with {sys.executable}")
        if code := run([sys.executable, "-m", "venv", folder], venv):
            return code
    if uv := shutil.which("uv"):
        say(f"by {uv}, from {LOCK}")
        # Compiled here, as pip does: what old packages are warned of is not told at their import.
        compiled = ["--python", str(python), "--compile-bytecode"]
        if not run([uv, "pip", *what, *compiled], venv, like_pip(python)):
            return 0
        say("uv could not; now by pip")
    say(f"by pip, from {LOCK}: about a minute")
    return run([str(python), "-m", "pip", *what, "--disable-pip-version-check"], venv)


def like_pip(python: Path) -> dict[str, str]:
    """Return the variables by which uv looks for packages where pip does; set ones stay."""
    asked = [python, "-m", "pip", "config", "list"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    # Backwards: pip lists its environment first, and that wins.
    options = dict(reversed(_OPTION.findall(found.stdout)))
    more = {AS_UV[name]: " ".join(options[name].split(r"\n")) for name in AS_UV if name in options}
    return {"UV_INDEX_STRATEGY": "unsafe-best-match"} | more | dict(os.environ)


def run(command: list[str], venv: Path, environment: dict[str, str] | None = None) -> int:
    """Run a command, and tell now and then how far it is; if it fails, how its output ended."""
    began, lines = time.monotonic(), list[str]()
    with subprocess.Popen(
        command,
        env=(environment or dict(os.environ)) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        reader = threading.Thread(target=lambda: lines.extend(child.stdout or ()), daemon=True)
        reader.start()
        while child.poll() is None:
            try:
                child.wait(EVERY_S)
            except subprocess.TimeoutExpired:
                say(f"{time.monotonic() - began:3.0f} s, {progress(lines, venv)}")
        reader.join()
    if child.returncode:
        print("".join(lines[-20:]), file=sys.stderr)
    else:
        say(f"{time.monotonic() - began:3.0f} s, done")
    return child.returncode


def progress(lines: list[str], venv: Path) -> str:
    """Tell how many packages are installed, and what was said last."""
    there = len(list(venv.glob("lib/python*/site-packages/*.dist-info")))
    last = textwrap.shorten(lines[-1], 70, placeholder="…") if lines else ""
    return f"{there} packages installed" + (f"; {last}" if last else "")


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(f"install: {line}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
