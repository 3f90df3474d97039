"""Hold what a notebook says to be seen to what its cells really print.

A markdown cell with the id ``observe-NAME`` describes the output of the code cell ``NAME``. Each
line of its ```` ```text ```` block must match a line of that output, in this order; ``…`` stands
for what differs from run to run, with or without blanks around it. Blanks count as one, and lines
of the output may be left out.

::

    .venv/bin/qwenkit sandbox up --detach --root /tmp/sb
    eval "$(.venv/bin/qwenkit sandbox env --root /tmp/sb)"
    .venv/bin/python tools/observe.py notebooks/01-model-to-oss.ipynb notebooks/02-storage.ipynb

runs the notebooks in order against that sandbox, keeps what they created, and names each line that
did not come. ``--executed`` compares notebooks that have their outputs; ``--show CELL`` prints the
output of a cell as it is compared, ready to be copied.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OBSERVE = "observe-"
_BLOCK = re.compile(r"^```text\n(.*?)\n?^```$", re.MULTILINE | re.DOTALL)


def expected(cell: dict[str, Any]) -> list[str]:
    """Return the lines of an *Observe* cell's block.

    Raises:
        ValueError: there is not exactly one block, or it is empty.
    """
    blocks = _BLOCK.findall(_source(cell))
    lines = [line for block in blocks for line in _lines(block)]
    if len(blocks) != 1 or not lines:
        raise ValueError(f"{cell['id']}: needs one ```text block with at least one line")
    return lines


def printed(cell: dict[str, Any]) -> list[str]:
    """Return the lines that a code cell printed: streams and results, in their order."""
    return [line for output in cell["outputs"] for line in _lines(_shown(output))]


def missing(wanted: list[str], seen: list[str]) -> str | None:
    """Return the first line that did not come after those before it; None if all came."""
    rest = iter(seen)
    for line in wanted:
        pattern = re.compile(".*".join(map(re.escape, re.split(r"\s*…\s*", line))))
        if not any(pattern.fullmatch(one) for one in rest):
            return line
    return None


def mismatches(notebook: dict[str, Any]) -> Iterator[str]:
    """Yield one text for each *Observe* cell of an executed notebook that does not hold."""
    code = {cell["id"]: cell for cell in notebook["cells"] if cell["cell_type"] == "code"}
    for cell in notebook["cells"]:
        if not cell["id"].startswith(OBSERVE):
            continue
        name = cell["id"].removeprefix(OBSERVE)
        if name not in code:
            yield f"{cell['id']}: there is no code cell {name}"
            continue
        try:
            wanted = expected(cell)
        except ValueError as error:
            yield str(error)
            continue
        seen = printed(code[name])
        line = missing(wanted, seen)
        if line is not None:
            yield "\n    ".join(
                [f"{cell['id']}: no such line:", line, "--- the cell printed", *seen]
            )


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _lines(text: str) -> list[str]:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [" ".join(line.rpartition("\r")[2].split()) for line in plain.splitlines()]
    return [line for line in lines if line]


def _shown(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return "".join(output["text"])
    data = output.get("data", {})
    if "text/plain" in data:
        return "".join(data["text/plain"])
    text = _Text()
    text.feed("".join(data.get("text/html", "")))
    return "".join(text.parts)


class _Text(HTMLParser):
    """The words of HTML, a line for each block."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.parts.append("\n" if tag in ("p", "div", "tr", "li", "pre", "h1", "h2", "h3") else " ")

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def _run(paths: list[Path], folder: Path) -> list[Path]:
    """Run notebooks of one folder in order, against the sandbox of the environment."""
    numbers = ",".join(path.name[:2] for path in paths)
    command = [sys.executable, "-m", "qwenkit", "run", "--yes", "--only", numbers]
    command += ["-p", str(ROOT / "notebooks" / "params" / "sandbox.yaml")]
    command += ["--set", f"run={os.environ.get('QWENKIT_RUN', 'default')}"]
    command += ["--notebooks", str(paths[0].parent), "--output", str(folder)]
    language = {"QWENKIT_LANG": "zh" if paths[0].parent.name == "zh" else "en"}
    subprocess.run(command, env=os.environ | language, check=False)
    return sorted(folder.glob("*/[0-9][0-9]-*.ipynb"))


def main() -> int:
    """Compare the notebooks of the command line; 1 if a line did not come."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("notebooks", nargs="+", type=Path, help="of one folder")
    parser.add_argument("--executed", action="store_true", help="they have their outputs")
    parser.add_argument("--show", metavar="CELL", help="print what this cell printed")
    words = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        paths = words.notebooks if words.executed else _run(words.notebooks, Path(folder))
        failed = len(paths) < len(words.notebooks)
        for path in paths:
            notebook = json.loads(path.read_text("utf-8"))
            for cell in notebook["cells"]:
                if cell["id"] == words.show:
                    print("\n".join(printed(cell)))
            for text in mismatches(notebook):
                failed = True
                print(f"{path.name}: {text}")
    print("observe: " + ("not as described" if failed else "as described"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
