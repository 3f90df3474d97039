"""Copy the tiny Qwen2, which is package data, to a folder of the hub.

``tools/train_tiny_model.py`` makes the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def write(folder: Path) -> None:
    """Write the model's files into ``folder``, which is made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    for resource in _resources():
        (folder / resource.name).write_bytes(resource.read_bytes())


def names() -> list[str]:
    """Return the names of its files."""
    return [resource.name for resource in _resources()]


def _resources() -> Iterator[Traversable]:
    for resource in files("qwenkit.sandbox.model").iterdir():
        if resource.is_file() and not resource.name.endswith(".py"):
            yield resource
