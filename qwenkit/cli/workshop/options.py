"""The options that the commands of a workshop share."""

from __future__ import annotations

from typing import Annotated

import typer

from qwenkit.workshop.names import DEFAULT as DEFAULT

Name = Annotated[str, typer.Option("--name", help="Name of the workshop.")]
