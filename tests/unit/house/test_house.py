"""The house: no circles, one meaning a name, nothing too large, and a picture that is current."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import architecture
import capacity_table
import pytest
from places import ROOT

PACKAGE = ROOT / "qwenkit"
CODE = [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]


def test_no_module_imports_itself_by_a_detour() -> None:
    try:
        TopologicalSorter(architecture.import_graph()).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))


def test_a_public_class_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module, path in architecture.modules().items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_file_is_long_and_no_function_is_longer_than_a_screen() -> None:
    too_long = []
    for path in CODE:
        text = path.read_text("utf-8")
        if len(text.splitlines()) > 400:
            too_long.append(path.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > 60:
                    too_long.append(f"{path.name}:{node.name}")
    assert too_long == []


def test_every_folder_can_be_taken_in_at_a_glance() -> None:
    folders: dict[Path, int] = defaultdict(int)
    for path in CODE:
        folders[path.parent] += 1
    assert {folder: count for folder, count in folders.items() if count > 20} == {}
    assert folders[PACKAGE] <= 8


def test_the_picture_of_the_house_is_current() -> None:
    drawn = architecture.PICTURE.read_text("utf-8")
    assert drawn == architecture.draw(), "out of date: run python tools/architecture.py"


def test_nothing_that_git_ignores_is_tracked() -> None:
    # A checkout of a tracked .venv would replace the environment that is there.
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert tracked.stdout.split() == []


def test_the_page_of_the_capacity_model_is_current() -> None:
    page = capacity_table.PAGE.read_text("utf-8")
    assert page == capacity_table.draw(page), "out of date: run python tools/capacity_table.py"


def test_each_constant_of_the_capacity_model_names_its_source() -> None:
    rows = {name: comment for name, _value, comment in capacity_table.constants()}
    for name, comment in rows.items():
        assert re.search("H200|published|estimate|vLLM|NVIDIA", comment), name
    for module in ("step_time", "memory"):
        for line in (PACKAGE / f"capacity/{module}.py").read_text("utf-8").splitlines():
            if found := re.match(r"(_[A-Z]\w+) = ", line):
                assert any(row.startswith(found[1]) for row in rows), line
