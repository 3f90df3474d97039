"""The help of the command line in Chinese: headings, paragraphs and options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from qwenkit.language import said
from qwenkit.language.width import wrapped

if TYPE_CHECKING:
    Formatter = Any
else:
    Formatter = TyperCommand.context_class.formatter_class
_RAW = "\b\n"  # click wraps no paragraph that begins so
_FIRST = 30  # columns of the options' names, at most


class ChineseHelp(Formatter):  # type: ignore[misc]
    """Writes what click asks for in Chinese."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write how the command is called."""
        super().write_usage(prog, args, prefix or said("Usage:"))

    def write_heading(self, heading: str) -> None:
        """Write the heading of a section."""
        super().write_heading(said(heading))

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        parts = (said(" ".join(part.split())) for part in text.split("\n\n"))
        room = self.width - self.current_indent
        super().write_text("\n\n".join(_RAW + "\n".join(wrapped(part, room)) for part in parts))

    def write_dl(self, rows: Sequence[tuple[str, str]], *widths: int) -> None:
        """Write names and what they mean."""
        room = self.width - 4 - min(_FIRST, max(len(name) for name, _ in rows))
        super().write_dl(
            [(name, _RAW + "\n".join(wrapped(said(text), room))) for name, text in rows], *widths
        )


def prepare() -> None:
    """Let every command write its help in Chinese."""
    TyperCommand.context_class.formatter_class = ChineseHelp
