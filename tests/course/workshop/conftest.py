"""A sandbox for a workshop; and one workshop for all that a hostile participant tries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hostile_world import World, hostile_world
from real_sandbox import RealSandbox

from qwenkit import Settings
from qwenkit.in_cluster.weights import Weights
from qwenkit.sandbox import process, state_files


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hostile_world(tmp_path_factory.mktemp("hostile")) as made:
        yield made


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSandbox]:
    root = tmp_path_factory.mktemp("workshop") / "root"
    process.up(root, state_files.SandboxOptions(gpus=2, time_scale=50))
    try:
        yield RealSandbox(root)
    finally:
        process.down(root)


@pytest.fixture
def settings(sandbox: RealSandbox, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in process.environment(sandbox.root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("QWENKIT_TRANSFER_IMAGE")  # no keeper writes what these tests compare
    found = Settings()
    Weights.of(found).upload()
    return found
