"""The options that many commands share, and the settings that they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qwenkit.errors import SettingsError
from qwenkit.settings import Settings, load_settings, read_params

Params = Annotated[Path | None, typer.Option("-p", "--params", help="YAML file of parameters.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One parameter; repeatable.")
]
Context = Annotated[str | None, typer.Option(help="kube context to act on (default: sandbox).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def read_settings(
    params: Path | None, pairs: list[str] | None, context: str | None, **more: Any
) -> Settings:
    """Return the settings of a command: defaults, environment, file, ``--set``, ``more``."""
    return settings_and_given(params, pairs, context, **more)[0]


def settings_and_given(
    params: Path | None, pairs: list[str] | None, context: str | None, **more: Any
) -> tuple[Settings, dict[str, Any]]:
    """Return the settings, and those of them that were given rather than defaulted."""
    text: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError("--set", pair, "must be KEY=VALUE", "for example --set max_scale=2")
        text[name.strip()] = value
    if context is not None:
        more["context"] = context
    settings = load_settings(params, text, **more)
    given = (read_params(params) if params else {}) | {
        name: getattr(settings, name) for name in (*text, *more)
    }
    return settings, given
