"""Why a notebook failed: what, why and fix, in words that a report can show."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from papermill.exceptions import PapermillExecutionError

from qwenkit.errors import QwenkitError

# How an error of ours lays itself out: QwenkitError.__str__.
_LAID_OUT = re.compile(
    r"(?P<what>.*?)(?:\n  why: (?P<why>.*?))?(?:\n  fix: (?P<fix>.*))?", re.DOTALL
)


def of_a_cell(executed: Path, failed: PapermillExecutionError) -> dict[str, str]:
    """Return ``what`` and the ``cell``, and ``why`` and ``fix`` where the error says them."""
    return words(f"{failed.ename}: {failed.evalue}") | {"cell": _cell(executed, failed)}


def of_the_rest(failed: Exception) -> dict[str, str]:
    """Describe what no cell raised: a kernel, a disk, a parameter that does not exist."""
    if isinstance(failed, QwenkitError):
        return words(str(failed))
    return {"what": f"{type(failed).__name__}: {str(failed).strip().partition(chr(10))[0]}"}


def hidden(executed: Path) -> dict[str, str] | None:
    """Find an exception that a widget's ``Output`` swallowed: papermill does not see it."""
    state = nbformat.read(executed, as_version=4).metadata.get("widgets", {})
    for bundle in state.values():
        for model in bundle.get("state", {}).values():
            for output in model.get("state", {}).get("outputs", ()):
                if output.get("output_type") == "error":
                    return words(f"in a widget: {output.get('ename')}: {output.get('evalue')}")
    return None


def words(text: str) -> dict[str, str]:
    """Take an error's text apart into what, why and fix; parts that are not there are left out."""
    found = _LAID_OUT.fullmatch(text)
    parts = found.groupdict() if found else {"what": text}
    return {name: re.sub(r"\n {7}", "\n", part) for name, part in parts.items() if part}


def _cell(executed: Path, failed: PapermillExecutionError) -> str:
    for cell in nbformat.read(executed, as_version=4).cells:
        if any(output.output_type == "error" for output in cell.get("outputs", ())):
            return str(cell.id)
    return str(failed.cell_index)
