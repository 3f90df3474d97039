"""The command line of vLLM's OpenAI server after 0.4.1: which flags a release has, and its errors.

``newer_flags.json`` lists them. As in vLLM, underscores are dashes, the model may be the first
argument, switches have a form with ``no-``, and amounts may be written as 8k or 8K.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from qwenkit.sandbox.engine.flags import Flags, Parser, flags_of
from qwenkit.sandbox.engine.releases import Release

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])")
_AMOUNTS = {
    letter: power
    for number, small in enumerate("kmgt", 1)
    for letter, power in ((small, 1000**number), (small.upper(), 1024**number))
}
_USAGE = "vllm serve [model_tag] [options]"
_AUTO = -1  # max-model-len: the longest that fits


def parse(argv: Sequence[str], release: Release) -> Flags:
    """Read the arguments of ``vllm serve`` or of the module.

    Raises:
        SandboxError: as for ``flags.parse``.
    """
    found = _parser(release).parse_args([_dashed(word) for word in argv])
    return flags_of(
        found,
        model=found.model_tag or found.model,
        block_size=int(found.block_size or 16),
        quantization=found.quantization,
        api_keys=tuple(found.api_key or ()),
        release=release,
    )


def _dashed(word: str) -> str:
    """Return a flag with dashes in its name; other words as they are."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _amount(text: str) -> int:
    """Return ``8k`` as 8000, ``8K`` as 8192; -1 and auto are the longest that fits."""
    if text in ("auto", "-1"):
        return _AUTO
    if found := _AMOUNT.fullmatch(text):
        return int(float(found[1]) * _AMOUNTS[found[2]])
    return int(text)


_amount.__name__ = "human_readable_int"  # argparse names it in its message


@cache
def _table() -> dict[str, Any]:
    text = (files("qwenkit.sandbox.engine") / "newer_flags.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _missing(release: Release) -> set[str]:
    """Return the flags that the release does not have yet, or no longer."""

    def reached(text: str) -> bool:
        return release.version[:2] >= tuple(map(int, text.split(".")))

    table = _table()
    early = [names for text, names in table["since"].items() if not reached(text)]
    late = [names for text, names in table["until"].items() if reached(text)]
    return set(" ".join(early + late).split())


def _parser(release: Release) -> Parser:
    parser, table, missing = Parser(prog="vllm serve", usage=_USAGE), _table(), _missing(release)

    def add(names: str, **options: Any) -> None:
        for name in names.split():
            if name not in missing:
                parser.add_argument(f"--{name}", **options)

    parser.add_argument("model_tag", nargs="?")
    add(table["switches"], action=argparse.BooleanOptionalAction)
    add(table["texts"])
    add(table["numbers"], type=int)
    add(table["amounts"], type=_amount)
    add(table["decimals"], type=float)
    add(table["lists"], nargs="+")
    for name, choices in table["choices"].items():
        add(name, choices=choices.split())
    parser.add_argument("--quantization", "-q", choices=[*table["quantization"].split(), "None"])
    for name, short in (("tensor", "tp"), ("pipeline", "pp"), ("data", "dp")):
        if f"{name}-parallel-size" not in missing:
            parser.add_argument(f"--{name}-parallel-size", f"-{short}", type=int, default=1)
    parser.set_defaults(
        model="Qwen/Qwen3-0.6B" if release.v1 else "facebook/opt-125m",
        port=8000,
        dtype="auto",
        gpu_memory_utilization=0.9,
        max_num_seqs=256,
        max_logprobs=20,
        response_role="assistant",
    )
    return parser
