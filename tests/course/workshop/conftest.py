"""One workshop for all that a hostile participant tries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hostile_world import World, hostile_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hostile_world(tmp_path_factory.mktemp("hostile")) as made:
        yield made
