"""The environment of the tools that build the site, and what is downloaded once and kept."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / "build" / "site-cache"
# Python in the browser: the npm package that the kernel names, and its hash in the registry.
_PINNED = json.loads((HERE / "pyodide.json").read_text("utf-8"))
PYODIDE, PYTHON_IN_BROWSER = _PINNED["package"], _PINNED["python"]


def say(text: str) -> None:
    """Say what is done now."""
    print(f"site: {text}", flush=True)


def call(words: Sequence[str | Path], *, why: str, fix: str, cwd: Path = ROOT) -> None:
    """Run a command quietly; if it fails, stop with what it said last, why it ran and a fix."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise SystemExit(f"{said}\nsite: {why}. To fix it: {fix}")


def tools() -> Path:
    """Return the Python of the tools' own environment, made if it is not there.

    It sees the packages of the course's environment too, whose docstrings become pages.
    """
    wanted, folder = HERE / "requirements.txt", CACHE / "venv"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return python
    say("installing Sphinx, myst-nb and JupyterLite into build/site-cache (once, about a minute)")
    shutil.rmtree(folder, ignore_errors=True)
    why, fix = "the tools of the site were not installed", "make site again, with a network"
    call([sys.executable, "-m", "venv", folder], why=why, fix=fix)
    course = next(each for each in map(Path, sys.path) if each.name == "site-packages")
    own = next(folder.glob("lib/python*/site-packages"))
    (own / "course.pth").write_text(f"{course}\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call([*pip, "-c", ROOT / "constraints.txt", "-r", wanted], why=why, fix=fix)
    stamp.write_text(wanted.read_text())
    return python


def pyodide() -> Path:
    """Return the folder of Pyodide's files, downloaded if it is not there."""
    folder = CACHE / PYODIDE.replace("@", "-")
    if folder.exists():
        return folder
    say(f"downloading {PYODIDE}, Python for the browser (once, 6 MB)")
    if not shutil.which("npm"):
        raise SystemExit(
            f"site: npm is not on the PATH, and {PYODIDE} comes from npm's registry. To fix it: "
            "install npm (Debian: apt-get install npm), then make site again"
        )
    why, fix = f"{PYODIDE} was not downloaded", "make site again, with a network"
    call(["npm", "pack", "--silent", PYODIDE], why=why, fix=fix, cwd=CACHE)
    packed = CACHE / f"{folder.name}.tgz"
    found = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    if f"sha512-{found}" != _PINNED["integrity"]:
        packed.unlink()
        raise SystemExit(
            f"site: {PYODIDE} has the hash sha512-{found}, not that of tools/site/pyodide.json. "
            "To fix it: find out who changed it, before you trust it"
        )
    with tarfile.open(packed) as files:
        files.extractall(CACHE / "unpacked", filter="data")
    packed.unlink()
    (CACHE / "unpacked" / "package").rename(folder)
    (CACHE / "unpacked").rmdir()
    return folder


def wheels(python: Path) -> list[Path]:
    """Return the wheels that the browser gets, downloaded if they are not there."""
    wanted, folder = HERE / "wheels.txt", CACHE / "wheels"
    stamp = folder / "wheels.txt"
    if not (stamp.exists() and stamp.read_text() == wanted.read_text()):
        say("downloading the Python packages of the browser (once, 6 MB)")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        pip = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        take = ["--no-deps", "--only-binary", ":all:", "--python-version", PYTHON_IN_BROWSER]
        call(
            [*pip, *take, "--require-hashes", "-d", folder, "-r", wanted],
            why="the Python packages of the browser were not downloaded",
            fix="make site again, with a network",
        )
        shutil.copy(wanted, stamp)
    return sorted(folder.glob("*.whl"))
