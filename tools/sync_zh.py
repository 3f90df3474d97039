"""Keep ``notebooks/zh`` in step with the English notebooks.

    python tools/sync_zh.py                    takes over code, ids and order
    python tools/sync_zh.py --check            only names the cells out of step; exit code 1
    python tools/sync_zh.py --todo 05          prints the English cells of 05 that need Chinese
    python tools/sync_zh.py --write 05 FILE    takes the Chinese from FILE
    python tools/sync_zh.py --accept 05 [ID…]  the Chinese that is there is that of today's English

FILE has the form that ``--todo`` prints: a line ``%% ID``, then the cell's Markdown, for each cell.
A Chinese cell keeps the hash of the English that it was written for in ``metadata.qwenkit.of``.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "notebooks"
Cell = dict[str, Any]
Notebook = dict[str, Any]
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_COMMANDS = re.compile(r"^```(?:bash|python|yaml)\n.*?^```", re.DOTALL | re.MULTILINE)


def pairs(folder: Path, number: str = "") -> list[tuple[Path, Path]]:
    """Return the English notebooks whose names begin with ``number``, each with its Chinese one."""
    browser = (folder / "lite").glob(f"{number}*.ipynb")  # the one that needs no installation
    found = [*sorted(folder.glob(f"{number}*.ipynb")), *sorted(browser)]
    return [(path, folder / "zh" / path.relative_to(folder)) for path in found]


def read(path: Path) -> Notebook:
    """Return a notebook; one without cells if there is none."""
    if not path.exists():
        return {"cells": []}
    notebook: Notebook = json.loads(path.read_text("utf-8"))
    return notebook


def text(cell: Cell) -> str:
    """Return the source of a cell."""
    return "".join(cell["source"])


def mark(cell: Cell) -> str:
    """Return the hash of an English cell's source."""
    return sha256(text(cell).encode()).hexdigest()[:12]


def synced(english: Notebook, chinese: Notebook) -> Notebook:
    """Return the Chinese notebook with the English code; Markdown without Chinese stays English."""
    old = {cell["id"]: cell for cell in chinese["cells"] if cell["cell_type"] == "markdown"}
    new = copy.deepcopy(english)
    for cell in new["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        elif cell["id"] in old:
            before = old[cell["id"]]
            cell["source"] = before["source"]
            cell["metadata"] |= {"qwenkit": before["metadata"].get("qwenkit", {"of": ""})}
        else:
            cell["metadata"] |= {"qwenkit": {"of": ""}}
    return new


def problems(english: Notebook, chinese: Notebook) -> Iterator[tuple[str, str]]:
    """Yield the id of each cell that is out of step, and why."""
    ours, theirs = ([cell["id"] for cell in one["cells"]] for one in (english, chinese))
    yield from ((name, "the Chinese notebook lacks it") for name in ours if name not in theirs)
    yield from ((name, "the English notebook has none") for name in theirs if name not in ours)
    both = [name for name in ours if name in theirs]
    if both != [name for name in theirs if name in ours]:
        yield both[0], "the cells stand in another order"
    twins = {cell["id"]: cell for cell in chinese["cells"]}
    for cell in english["cells"]:
        if (twin := twins.get(cell["id"])) is not None:
            yield from ((cell["id"], why) for why in _differences(cell, twin))


def _differences(cell: Cell, twin: Cell) -> Iterator[str]:
    if cell["cell_type"] != twin["cell_type"]:
        yield f"one is {cell['cell_type']}, one {twin['cell_type']}"
    elif cell["cell_type"] == "code":
        if text(cell) != text(twin):
            yield "the code differs"
        if cell["metadata"] != twin["metadata"]:
            yield "the tags differ"
    elif not _CHINESE.search(text(twin)):
        yield "it has no Chinese"
    elif twin["metadata"].get("qwenkit", {}).get("of") != mark(cell):
        yield "its English has changed since"
    elif _COMMANDS.findall(text(cell)) != _COMMANDS.findall(text(twin)):
        yield "its commands differ"


def todo(english: Notebook, chinese: Notebook) -> str:
    """Return the English cells that need Chinese, in the form that ``written`` reads."""
    wanted = {name for name, _ in problems(english, chinese)}
    cells = [cell for cell in english["cells"] if cell["id"] in wanted]
    return "".join(f"%% {c['id']}\n{text(c)}\n" for c in cells if c["cell_type"] == "markdown")


def written(english: Notebook, chinese: Notebook, prose: str) -> Notebook:
    """Return the Chinese notebook with the cells of ``prose``."""
    new = synced(english, chinese)
    cells = {cell["id"]: cell for cell in new["cells"] if cell["cell_type"] == "markdown"}
    _, *parts = re.split(r"^%% (\S+)\n", prose, flags=re.MULTILINE)
    for name, markdown in zip(parts[::2], parts[1::2], strict=True):
        if name not in cells:
            raise SystemExit(f"no Markdown cell {name}; there are: {', '.join(cells)}")
        cells[name]["source"] = markdown.strip("\n").splitlines(keepends=True)
    return accepted(english, new, parts[::2])


def accepted(english: Notebook, chinese: Notebook, names: list[str]) -> Notebook:
    """Return the Chinese notebook, some cells (else all) said to be those of today's English."""
    new, marks = synced(english, chinese), {cell["id"]: mark(cell) for cell in english["cells"]}
    for cell in new["cells"]:
        if cell["cell_type"] == "markdown" and cell["id"] in (names or marks):
            cell["metadata"]["qwenkit"] = {"of": marks[cell["id"]]}
    return new


def save(path: Path, notebook: Notebook) -> None:
    """Write a notebook as JupyterLab and nbstripout do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


def main(arguments: list[str], folder: Path = FOLDER) -> int:
    """Do as the arguments say; return 1 where cells are out of step."""
    action = arguments[0] if arguments and arguments[0].startswith("--") else ""
    number, *rest = [*arguments[bool(action) :], ""]
    found = 0
    for ours, theirs in pairs(folder, number):
        english, chinese = read(ours), read(theirs)
        if action == "--todo":
            print(todo(english, chinese), end="")
            continue
        if action == "--write":
            save(theirs, written(english, chinese, Path(rest[0]).read_text("utf-8")))
        elif action == "--accept":
            save(theirs, accepted(english, chinese, rest[:-1]))
        elif not action:
            save(theirs, synced(english, chinese))
        for name, why in problems(english, read(theirs)):
            found = 1
            print(f"{theirs.relative_to(folder.parent)}: cell {name}: {why}")
    for path in sorted({*(folder / "zh").rglob("*.ipynb")} - {twin for _, twin in pairs(folder)}):
        found = 1
        print(f"{path.relative_to(folder.parent)}: there is no English notebook of this name")
    return found if action == "--check" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
