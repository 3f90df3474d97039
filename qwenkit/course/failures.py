"""Why a notebook failed: what, why and fix, in words that a report can show."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from papermill.exceptions import PapermillExecutionError

# How an error of ours lays itself out, in both languages: QwenkitError.__str__.
_LAID_OUT = re.compile(
    r"(?s)(?P<what>.*?)(\n  (?:why: |原因：)(?P<why>.*?))?(\n  (?:fix: |解决办法：)(?P<fix>.*))?"
)


def words(text: str) -> dict[str, str]:
    """Take an error's text apart into what, why and fix; parts that are not there are left out."""
    found = _LAID_OUT.fullmatch(text)
    parts = found.groupdict() if found else {"what": text}
    return {name: part.replace("\n       ", "\n") for name, part in parts.items() if part}


def of_a_cell(executed: Path, failed: PapermillExecutionError) -> dict[str, str]:
    """Return the words of a cell's error, and the ``cell`` by its id."""
    cells = nbformat.read(executed, as_version=4).cells
    hit = [each.id for each in cells if any(map(_is_error, each.get("outputs", ())))]
    cell = str(hit[0] if hit else failed.cell_index)
    return words(f"{failed.ename}: {failed.evalue}") | {"cell": cell}


def hidden(executed: Path) -> dict[str, str] | None:
    """Find an exception that a widget's ``Output`` swallowed: papermill does not see it."""
    state = nbformat.read(executed, as_version=4).metadata.get("widgets", {})
    for bundle in state.values():
        for model in bundle.get("state", {}).values():
            for output in filter(_is_error, model.get("state", {}).get("outputs", ())):
                return words(f"in a widget: {output.get('ename')}: {output.get('evalue')}")
    return None


def _is_error(output: dict[str, str]) -> bool:
    return output.get("output_type") == "error"
