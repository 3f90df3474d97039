"""Every name of the front room has an example, and the examples run, in the course's order."""

from __future__ import annotations

import doctest

import pytest

import qwenkit
from qwenkit.sandbox import process

CHOSEN = {
    "mount_path": "/examples",
    "min_scale": "1",
    "stable_window": "6s",
    "load_seconds": "2",
    "delete_weights": "true",
}


@pytest.fixture
def in_the_sandbox(sandbox, monkeypatch):
    for name, value in process.environment(sandbox).items():
        monkeypatch.setenv(name, value)
    own = ("service", "volume", "run", "prefix")
    for name, value in dict.fromkeys(own, "examples").items() | CHOSEN.items():
        monkeypatch.setenv(f"QWENKIT_{name.upper()}", value)


def test_every_example_runs_in_the_order_of_the_course(in_the_sandbox):
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for name in qwenkit.__all__:
        (example,) = finder.find(getattr(qwenkit, name), name, module=False)
        assert example.examples, f"{name} has no example"
        example.globs = {"__name__": "example"}
        runner.run(example, out=report.append)
    assert runner.failures == 0, "".join(report)
