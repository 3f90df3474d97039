"""``lint``: what a cluster would refuse in YAML that anyone wrote, and what would not work."""

from __future__ import annotations

import sys
from functools import partial
from itertools import chain
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import Annotated

import typer

from qwenkit.capacity.finding import Finding
from qwenkit.cli.console import emit
from qwenkit.cli.options import Json
from qwenkit.errors import InvalidValue

_MOST_BYTES = 4 * 2**20


def lint(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="YAML or JSON; - is stdin.")],
    gpu: Annotated[str | None, typer.Option(help="The GPU of the nodes, such as V100-16.")] = None,
    all_features: Annotated[
        bool, typer.Option("--all-features", help="Knative's feature flags are all on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge Services, volumes and claims that anyone wrote; exit 1 if there is an error."""
    from qwenkit.admission.config_maps import ALL_FEATURES
    from qwenkit.capacity.calibration.cards import gpu_named
    from qwenkit.manifests.lint_files import lint_files

    card = gpu_named(gpu).label if gpu is not None else None
    texts = [(name, _text(name)) for name in files]
    found = lint_files(texts, features=ALL_FEATURES if all_features else None, gpu=card)
    counts = ", ".join(
        f"{level} {sum(f.level == level for f in found)}"
        for level in ("error", "warning", "advice")
    )
    emit(found if as_json else "\n".join([*map(_block, found), counts]), as_json=as_json)
    raise typer.Exit(1 if any(f.level == "error" for f in found) else 0)


def _block(found: Finding) -> str:
    """Return a finding as lines: at a terminal, none is longer than that is wide."""
    width = get_terminal_size().columns if sys.stdout.isatty() else 10**6
    text = f"{found.level} {found.rule}  {found.where}\n{found.message}\nfix: {found.fix}"
    cut = partial(wrap, width=width - 4, break_long_words=False, break_on_hyphens=False)
    return "\n  ".join(chain.from_iterable(map(cut, text.splitlines()))) + "\n"


def _text(name: str) -> str | ValueError:
    from qwenkit.untrusted.files import read_text

    try:
        return read_text(Path("/dev/stdin" if name == "-" else name), most=_MOST_BYTES)
    except ValueError as error:
        return error
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
        raise InvalidValue("FILE", name, why, "name YAML files") from None
