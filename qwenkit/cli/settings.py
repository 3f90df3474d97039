"""``settings`` and ``status``: every parameter and where its value is from; what runs now."""

from __future__ import annotations

import json
import shutil

import typer

from qwenkit.cli.console import emit
from qwenkit.cli.options import Context, Json, Params, Set, read_settings
from qwenkit.language import said
from qwenkit.language.width import wrapped
from qwenkit.parameters.described import described

_HEAD = (
    "A name is a key of a params file and of --set, and QWENKIT_<NAME> in the environment. "
    "In brackets: where a value is from that is not the default."
)


def settings(
    params: Params = None, set_: Set = None, context: Context = None, as_json: Json = False
) -> None:
    """List every parameter by group: value, default, meaning, origin."""
    from qwenkit import steps

    found = steps.resolve(read_settings(params, set_, context))
    rows = described(found, found.origins)
    if as_json:
        emit(rows, as_json=True)
    else:
        typer.echo(_lines(rows))


def status(
    params: Params = None, set_: Set = None, context: Context = None, as_json: Json = False
) -> None:
    """Show what runs, where, since when and at what cost; exit 1 if nothing does."""
    from qwenkit import steps

    found = steps.status(read_settings(params, set_, context))
    emit(found, as_json=as_json)
    raise typer.Exit(0 if found.running else 1)


def _lines(rows: list[dict[str, object]]) -> str:
    width = min(shutil.get_terminal_size().columns, 120)
    lines, group = wrapped(said(_HEAD), width), ""
    for row in rows:
        if row["group"] != group:
            group = str(row["group"])
            lines += ["", typer.style(said(group), bold=True)]
        line = f"  {row['name']} = {json.dumps(row['value'], ensure_ascii=False)}"
        if row["origin"] != "default":
            default = json.dumps(row["default"], ensure_ascii=False)
            other = f"; default: {default}" if row["value"] != row["default"] else ""
            note = f"[{said(str(row['origin']))}{said(other)}]"
            apart = "  " if len(line) + len(note) + 2 <= width else "\n" + " " * 6
            line = typer.style(line, bold=True) + apart + note
        lines.append(line)
        lines += [" " * 6 + part for part in wrapped(said(str(row["meaning"])), width - 6)]
    return "\n".join(lines)
