"""One OSS server for the tests of a file, and an oss2 client for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest
from oss_world import client, serving


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("around") / "oss"


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    with serving(root) as url:
        yield url


@pytest.fixture
def bucket(url: str) -> Iterator[oss2.Bucket]:
    with client(url) as bucket:
        yield bucket
