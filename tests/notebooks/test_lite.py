"""The notebook for the browser runs with what a browser has, and the site finds all it links to."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib

import pytest
from places import ROOT

NOTEBOOK = ROOT / "notebooks" / "lite" / "autoscaling.ipynb"
# Runs the cells in order, and shows what each ends with as a front end would.
RUN = """
import ast, importlib.abc, json, os, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split():
            raise ModuleNotFoundError(f"a browser has no {name}", name=name)

sys.meta_path.insert(0, Missing())
del os.geteuid
names = {"display": lambda each: None}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        *lines, last = ast.parse("".join(cell["source"])).body
        exec(compile(ast.Module(lines, []), cell["id"], "exec"), names)
        if not isinstance(last, ast.Expr):
            exec(compile(ast.Module([last], []), cell["id"], "exec"), names)
            continue
        shown = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
        if shown is not None:
            print(cell["id"], shown._repr_mimebundle_()["text/plain"])
"""


def cells(path):
    return json.loads(path.read_text("utf-8"))["cells"]


def not_in_a_browser():
    """Return the modules of what the package requires, none of which Pyodide gets."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = (re.split(r"[^\w.-]", line)[0] for line in project["dependencies"])
    return {name.partition(".")[0].replace("-", "_") for name in names} | {"pydantic", "yaml"}


def test_the_notebook_runs_with_what_a_browser_has(tmp_path):
    command = [sys.executable, "-c", RUN, str(NOTEBOOK), " ".join(not_in_a_browser())]
    environment = {"PATH": "/usr/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for line in ("panel people in a chat", "check-05-1 ○ 05.1", "SHA-256 "):
        assert line in done.stdout


def test_its_cells_keep_the_course_s_rules():
    for cell in cells(NOTEBOOK):
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 20 or cell["cell_type"] == "markdown", cell["id"]
        assert not cell.get("outputs"), cell["id"]
        assert not re.search(r"^\s*[!%]", source, re.MULTILINE) or cell["cell_type"] == "markdown"


@pytest.mark.parametrize("home", sorted(ROOT.glob("README*.md")), ids=lambda path: path.stem)
def test_every_link_of_the_site_s_texts_leads_somewhere(home, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools" / "site")
    from sources import Sources

    language = "en" if home.name == "README.md" else "zh"
    sources = Sources(language, tmp_path, ("qwenkit.settings",))
    assert "notebooks/lite/autoscaling.ipynb" in map(str, sources.write())
    assert sources.missing == []
    texts = "".join(path.read_text("utf-8") for path in tmp_path.rglob("index.md"))
    assert "api/qwenkit.settings.html" in texts


def test_a_wrong_link_of_a_page_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools" / "site")
    from links import wrong

    (tmp_path / "b.html").write_text("<h1 id='here'>b</h1>")
    (tmp_path / "a.html").write_text(
        "<a href='b.html#here'></a><a href='b.html#gone'></a><a href='c.html'></a>"
        "<a href='https://example.com'></a><script src='https://example.com/x.js'></script>"
    )
    assert wrong(tmp_path) == [
        "a.html: b.html#gone",
        "a.html: c.html",
        "a.html: https://example.com/x.js is fetched from elsewhere",
    ]


def test_the_panel_has_the_same_packages_in_the_browser():
    pins = dict(
        line.split()[0].split("==")
        for line in (ROOT / "tools/site/wheels.txt").read_text("utf-8").splitlines()[1:]
    )
    locked = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    )
    for name in ("ipywidgets", "comm"):
        assert pins[name] == locked[name], "run tools/site/pin.py"
