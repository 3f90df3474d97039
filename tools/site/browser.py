"""JupyterLite: the course's simulator in a browser, with Python and packages beside it.

Pyodide fetches packages from a network by default. Here its own list of packages names only what
lies beside it, qwenkit too: a notebook's first import finds it, and nothing is installed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import environment

ROOT, NOTEBOOKS = environment.ROOT, environment.ROOT / "notebooks"
KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel"
# What the browser does not need of the package: the stand-in for a cluster is 6 MB of models.
_LEFT_OUT = ("sandbox",)
# What comes with the kernel, or stands in JupyterLab's pages and not in Python.
_NOT_IN_PYTHON = ("jupyterlab-widgets",)


def build(python: Path, wheels: list[Path], pyodide: Path, out: Path) -> None:
    """Build JupyterLite with its notebooks into a folder."""
    work = environment.CACHE / "lite"
    shutil.rmtree(work, ignore_errors=True)
    beside = work / "static" / "pyodide"
    shutil.copytree(pyodide, beside, ignore=shutil.ignore_patterns("*.map", "*.d.ts", "*.html"))
    lock = json.loads((pyodide / "pyodide-lock.json").read_text("utf-8"))
    lock["packages"] = _packages(lock["packages"], wheels, beside)
    (beside / "pyodide-lock.json").write_text(json.dumps(lock), "utf-8")
    settings = {
        "pyodideUrl": "./static/pyodide/pyodide.mjs",
        "disablePyPIFallback": True,
        "loadPyodideOptions": {"packages": ["micropip", "qwenkit"]},
    }
    page = {"appName": "qwenkit", "litePluginSettings": {KERNEL: settings}}
    _write(
        work / "jupyter-lite.json", {"jupyter-lite-schema-version": 0, "jupyter-config-data": page}
    )
    shown = next(each for each in wheels if each.name.startswith("jupyterlab_widgets"))
    # By default it leaves out folders of the output's name: ``lite``.
    ours = {"ignore_contents": [r"/\.ipynb_checkpoints"], "no_sourcemaps": True}
    config = {"LiteBuildConfig": {"federated_extensions": [str(shown)], **ours}}
    _write(work / "jupyter_lite_config.json", config)
    _contents(work / "files")
    words = ["-m", "jupyterlite_core", "build", "--contents", "files", "--output-dir", str(out)]
    environment.call(
        [python, *words, "--apps", "lab", "--apps", "notebooks"],
        why="JupyterLite was not built",
        fix="rm -r build/site-cache, then make site again",
        cwd=work,
    )


def _contents(folder: Path) -> None:
    """Copy the notebooks that need no cluster, and what they link to."""
    for where in (NOTEBOOKS, NOTEBOOKS / "zh"):
        to = folder / where.relative_to(NOTEBOOKS)
        for name in ("lite", "pictures"):
            if (where / name).is_dir():
                shutil.copytree(where / name, to / name)
        if (where / "glossary.md").exists():
            shutil.copy(where / "glossary.md", to)


def _packages(known: dict[str, Any], wheels: list[Path], to: Path) -> dict[str, Any]:
    """Return the packages that lie beside Pyodide, qwenkit among them, as its lock names them."""
    packages = {_plain(name): each for name, each in known.items()}
    names = {_plain(path.name.split("-")[0]) for path in wheels} - set(_NOT_IN_PYTHON)
    kept = {}
    for path in [*wheels, qwenkit_wheel(to)]:
        name = _plain(path.name.split("-")[0])
        if name not in names and name != "qwenkit":
            continue
        entry = packages.get(name) or _entry(name, path)
        depends = [each for each in entry["depends"] if _plain(each) in names]
        kept[name] = entry | {"file_name": path.name, "sha256": _hash(path), "depends": depends}
        if path.parent != to:
            shutil.copy(path, to)
    return kept


def _entry(name: str, path: Path) -> dict[str, Any]:
    """Return the entry of a pure package that Pyodide does not know."""
    depends = {"qwenkit": ["ipywidgets"], "ipywidgets": ["comm", "ipython", "traitlets"]}
    return {
        "name": name,
        "version": path.name.split("-")[1],
        "imports": [name],
        "depends": depends.get(name, []),
        "install_dir": "site",
        "package_type": "package",
        "unvendored_tests": False,
    }


def qwenkit_wheel(folder: Path) -> Path:
    """Write the package as a wheel that requires nothing: a browser reaches no cluster."""
    source = (ROOT / "qwenkit" / "__init__.py").read_text("utf-8")
    version = ast.literal_eval(re.search(r"^__version__ = (.+)$", source, re.MULTILINE)[1])
    path, info = folder / f"qwenkit-{version}-py3-none-any.whl", f"qwenkit-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in sorted((ROOT / "qwenkit").rglob("*")):
            name = file.relative_to(ROOT)
            if (
                file.is_file()
                and "__pycache__" not in name.parts
                and name.parts[1] not in _LEFT_OUT
            ):
                wheel.write(file, name)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: qwenkit\nVersion: {version}\n"
        )
        about = "Wheel-Version: 1.0\nGenerator: qwenkit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", about)
        wheel.writestr(f"{info}/RECORD", "")
    return path


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, what: Any) -> None:
    path.write_text(json.dumps(what, indent=2), "utf-8")
