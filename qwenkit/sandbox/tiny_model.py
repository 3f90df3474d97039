"""Copy the tiny Qwen2, which is package data, to a folder of the hub.

``tools/train_tiny_model.py`` makes the files.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def write(folder: Path) -> None:
    """Write the model's files into ``folder``, which is made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    for resource in files("qwenkit.sandbox.model").iterdir():
        if resource.is_file() and not resource.name.endswith(".py"):
            (folder / resource.name).write_bytes(resource.read_bytes())
