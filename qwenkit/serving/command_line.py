"""The arguments of vLLM's server, as its parser reads them.

Source: vLLM's argument parser (short and underscore flags, ``6k`` and ``32K``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

UNKNOWN = "\0"
"""Stands in a text for what only the running container knows."""
_FLAG = re.compile(r"--?[A-Za-z]")
_SHORT = {"tp": "tensor-parallel-size", "pp": "pipeline-parallel-size", "n": "nnodes"}
_SHORT |= {"dp": "data-parallel-size", "q": "quantization"}
_SWITCH = re.compile(r"(enable|disable|no|use|trust|enforce|skip|return|headless)-?.*|O\d")
_MANY = ("served-model-name", "lora-modules", "api-key", "middleware")
_UNITS = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """vLLM's options by their long names, as text, and its model ("" if not known).

    ``unread``: other options may be in a file or a variable that only the container knows.
    ``passes_signals``: no shell keeps SIGTERM from vLLM.
    """

    options: Mapping[str, str]
    model: str
    unread: bool
    passes_signals: bool

    def text(self, name: str, otherwise: str = "") -> str | None:
        """Return an option, its default if it is not given, None if it cannot be known."""
        value = self.options.get(name)
        if value is None:
            return None if self.unread else otherwise
        return None if UNKNOWN in value else value

    def number(self, name: str, otherwise: float) -> float | None:
        """Return an option as a number; None if it cannot be known or is none."""
        text = self.text(name, str(otherwise)) or ""
        found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)([kmgtKMGT]?)", text)
        return float(found[1]) * _UNITS.get(found[2], 1) if found else None


def read_arguments(arguments: Sequence[str], *, passes_signals: bool = True) -> ServerCommand:
    """Read the words after the program's name."""
    options: dict[str, str] = {}
    others: list[str] = []
    left = list(arguments)
    while left:
        name, equals, value = (word := left.pop(0)).partition("=")
        if not _FLAG.match(word):
            others += [word] if word.lower() not in ("true", "false") else []
            continue
        long = name.lstrip("-").replace("_", "-")
        long = long if name.startswith("--") else _SHORT.get(long, long)
        if not equals and not _SWITCH.fullmatch(long):
            values = list(takewhile(lambda word: not _FLAG.match(word), left))
            values = values if long in _MANY else values[:1]
            del left[: len(values)]
            value = " ".join(values)
        options[long] = value
    model = others[1] if others[:1] == ["serve"] and others[1:] else options.get("model", "")
    unread = "config" in options or UNKNOWN in others
    return ServerCommand(options, "" if UNKNOWN in model else model, unread, passes_signals)
