"""A bucket behind real HTTP, and a folder with an object of twelve parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from transfer_world import World, world, write
from twelve_parts import FILES


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        write(tmp_path / "model", FILES)
        yield found
