"""Show documents and lists of results in a notebook, as HTML and as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from qwenkit.language import said
from qwenkit.language.width import columns as width_of
from qwenkit.language.width import padded

_COLORS = {
    "ok": "#1a7f37",
    "passed": "#1a7f37",
    "warn": "#9a6700",
    "warning": "#9a6700",
    "unknown": "#9a6700",
    "fail": "#cf222e",
    "held": "#cf222e",
    "error": "#cf222e",
}
_PRE = "font-family:monospace;font-size:0.9em;line-height:1.35"
_PRE += ";word-break:normal;overflow-wrap:anywhere"
# White on a colour is readable on a light page and on a dark one.
_BADGE = "color:#fff;font-weight:600;padding:0 5px;border-radius:3px"
_SHORT = 16  # letters that stay on one line
# Columns whose cells are names.
_NAMES = {"name", "setting", "value", "metric", "parameter", "field", "key", "object", "kind"}
_NAMES |= {"rule", "file"}
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"
# A host's or an image's name is one long word: broken only where a column is very narrow.
_LONG = f"{_CELL};min-width:7em;overflow-wrap:anywhere"


class _Said(str):
    """A cell's text in the person's language, and in English."""

    english: str

    def __new__(cls, english: str) -> _Said:
        made = super().__new__(cls, said(english))
        made.english = english
        return made


class CellOutput:
    """The output of a cell: HTML for people, text for everything else."""

    def __init__(self, html: str, text: str) -> None:
        self.html, self._text = html, text

    def __repr__(self) -> str:
        return self._text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": self._text, "text/html": self.html}


def show_yaml(*docs: Any) -> CellOutput:
    """Show documents as YAML that can be copied as it is, comments kept.

    >>> from qwenkit import show_yaml
    >>> show_yaml({"kind": "ConfigMap"})
    kind: ConfigMap
    <BLANKLINE>
    """
    from qwenkit.manifests.template import to_yaml

    text = to_yaml(list(docs))
    return CellOutput(f"<pre style='{_PRE}'>{_colored(text)}</pre>", text)


def _colored(text: str) -> str:
    # Imported here: tables do not need them, in Pyodide for example.
    from pygments.lexers import YamlLexer
    from pygments.token import Comment, Name, String

    colors = {Comment: "#888", Name.Tag: "#1e88e5", String: "#d32f2f"}
    spans = []  # mixed with the text's own, a colour is readable on a light page and on a dark one
    for token, part in YamlLexer().get_tokens(text):
        color = next((color for kind, color in colors.items() if token in kind), None)
        mixed = f"<span style='color:color-mix(in srgb, currentColor 40%, {color})'>"
        spans.append(f"{mixed}{escape(part)}</span>" if color else escape(part))
    return "".join(spans)


def show_table(
    rows: Iterable[Any], *columns: str, empty: str = "nothing", kept: Iterable[str] = ()
) -> CellOutput:
    """Show objects, mappings or tuples as a table; columns that are all empty are left out.

    ``columns`` are names of attributes or keys, and the headings; a tuple has their order. A whole
    number under ``size`` is one of bytes. ``empty`` is the text if there is no row; the
    cells of ``kept`` columns, as names, stay as they are in every language.

    >>> from qwenkit import show_table
    >>> show_table([("V100-16", 3)], "gpu", "count")
    gpu      count
    V100-16  3
    """
    cells = [[_text(_get(row, i, name), name) for i, name in enumerate(columns)] for row in rows]
    if not cells:
        return CellOutput(f"<p>{escape(said(empty))}</p>", said(empty))
    used = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    names = _NAMES.union(kept)
    cells = [[row[i] if columns[i] in names else _Said(row[i]) for i in used] for row in cells]
    heads = [said(columns[i]) for i in used]
    return CellOutput(_html(heads, cells), _plain(heads, cells))


def _get(row: Any, index: int, name: str) -> Any:
    if isinstance(row, Mapping):
        return row[name]
    return row[index] if isinstance(row, tuple) else getattr(row, name)


def _text(value: Any, column: str) -> str:
    if value is None:
        return "-"
    if column == "size" and isinstance(value, int):
        # Imported here: most tables have no sizes, those of a browser's own Python for example.
        from qwenkit.weights.progress import format_bytes

        return format_bytes(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _html(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    # What most rows leave empty shall not take the room of what they fill.
    rare = [4 * sum(map(bool, column)) < len(cells) for column in zip(*cells, strict=True)]
    head = "".join(
        f"<th style='{_CELL}{';width:18%' * few}'>{escape(name)}</th>"
        for name, few in zip(columns, rare, strict=True)
    )
    body = "".join(f"<tr>{''.join(_cell(text) for text in row)}</tr>" for row in cells)
    return f"<table style='margin:0'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    style = f"{_CELL};white-space:nowrap" if len(text) <= _SHORT else _LONG
    shown = escape(text)
    if (meant := getattr(text, "english", text)) in _COLORS:
        shown = f"<span style='{_BADGE};background:{_COLORS[meant]}'>{shown}</span>"
    return f"<td style='{style}'>{shown}</td>"


def _plain(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [columns, *cells]
    widths = [max(width_of(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(padded(text, width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
