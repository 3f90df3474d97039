"""The front room: its names, what they load, and what `import qwenkit` costs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

import qwenkit

STUB = ast.parse((ROOT / "qwenkit" / "__init__.pyi").read_text("utf-8"))


def in_a_new_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_every_name_is_there_once_and_says_what_it_is() -> None:
    assert 12 <= len(qwenkit.__all__) <= 40
    assert len(set(qwenkit.__all__)) == len(qwenkit.__all__)
    for name in qwenkit.__all__:
        found = getattr(qwenkit, name)
        assert found.__name__ == name
        assert found.__doc__, name
    assert set(qwenkit.__all__) <= set(dir(qwenkit))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = qwenkit.nonsense


def test_type_checkers_see_the_same_names_from_the_same_rooms() -> None:
    seen = {
        alias.name: node.module
        for node in ast.walk(STUB)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qwenkit.")
        for alias in node.names
    }
    assert seen == {name: getattr(qwenkit, name).__module__ for name in qwenkit.__all__}


def test_notebooks_use_no_other_names_and_scripts_few() -> None:
    used = set()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            for names in re.findall(r"from qwenkit import ([^\n(]+|\([^)]*\))", _text(cell)):
                used |= set(re.findall(r"\w+", names))
    unused = set(qwenkit.__all__) - used
    assert used <= set(qwenkit.__all__)
    assert unused == {"explain"}


def _text(cell: dict[str, list[str]]) -> str:
    return "".join(cell["source"])


def test_importing_it_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import qwenkit; print(set(sys.modules) - before)"
    loaded = ast.literal_eval(in_a_new_python(code))
    assert loaded <= {"qwenkit", "importlib", "importlib._bootstrap", "warnings", "__future__"}


def test_settings_alone_load_no_client_of_anything() -> None:
    code = "import sys; from qwenkit import Settings; print(sorted(sys.modules))"
    loaded = set(ast.literal_eval(in_a_new_python(code)))
    assert not loaded & {"kubernetes", "oss2", "openai", "aiohttp", "ipywidgets", "papermill"}


def test_the_readme_names_the_order_to_read_the_front_room_in() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.partition("## Read the code in this order")[2].partition("\n## ")[0]
    files = [ROOT / name for name in re.findall(r"\]\((qwenkit/[\w/]+\.py)\)", section)]
    assert files
    assert all(file.is_file() for file in files)
    lines = sum(len(Path(file).read_text("utf-8").splitlines()) for file in files)
    assert 2500 <= lines <= 4000
