"""The tiny models, which are package data, as files of a hub's repository.

``tools/train_tiny_model.py`` makes them. One stands for every model of the catalogue: the Qwen3 for
those named so, the Qwen2 for all others. Its ``config.json`` is its own, with one more key, which
says for which model it stands: the engine takes that model's time and memory.
"""

from __future__ import annotations

import json
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from qwenkit.capacity.catalogue import find_known

KEY = "stands_for"
DEFAULT = "Qwen-7B-Chat-Int8"
_CONFIG = "config.json"


def contents(stands_for: str = DEFAULT) -> dict[str, bytes]:
    """Return the files of the tiny model that stands for one."""
    found = _read(_architecture(stands_for))
    config = json.loads(found[_CONFIG]) | {KEY: stands_for}
    return found | {_CONFIG: f"{json.dumps(config, indent=2)}\n".encode()}


@lru_cache(64)
def stand_in(name: str) -> dict[str, bytes]:
    """Return the files that stand for a public model; none if it is not of the catalogue."""
    return contents(name) if find_known(name) else {}


def write(folder: Path, stands_for: str = DEFAULT) -> None:
    """Write the files into ``folder``, which is made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents(stands_for).items():
        (folder / name).write_bytes(content)


def names() -> list[str]:
    """Return the names of the files."""
    return list(_read("qwen2"))


def _architecture(name: str) -> str:
    return "qwen3" if name.lower().startswith("qwen3") else "qwen2"


@cache
def _read(architecture: str) -> dict[str, bytes]:
    folder = files("qwenkit.sandbox.models") / architecture
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}
