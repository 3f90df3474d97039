"""An empty cluster, and a client connected to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_api import Api, connected

from qwenkit.cluster.client import Cluster


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def cluster(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with connected(api, tmp_path, monkeypatch) as cluster:
        yield cluster
