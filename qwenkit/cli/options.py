"""The options that many commands share, and the settings that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qwenkit.errors import SettingsError
from qwenkit.settings import Settings

Params = Annotated[Path | None, typer.Option("-p", "--params", help="YAML file of parameters.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One parameter; repeatable.")
]
Context = Annotated[str | None, typer.Option(help="kube context to act on (default: sandbox).")]
Root = Annotated[Path, typer.Option(help="Folder of the sandbox's state.")]
Yes = Annotated[bool, typer.Option("--yes", help="Agree that what another run made is removed.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def read_settings(
    params: Path | None, pairs: list[str] | None, context: str | None, **more: object
) -> Settings:
    """Return the settings of a command: ``more`` and ``--set``, then file, then environment."""
    text: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError("--set", pair, "must be KEY=VALUE", "for example --set max_scale=2")
        text[name.strip()] = value
    if context is not None:
        more["context"] = context
    return Settings.load(params, text, **more)
