"""The hashed lock is the lock: the same versions, each with the hashes of its files."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pins
import pytest

ROOT = Path(__file__).parents[3]


def versions(name: str) -> dict[str, str]:
    pairs = re.findall(r"^([\w.-]+)==([^\s\\;]+)", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    return {re.sub("[-_.]+", "-", package).lower(): version for package, version in pairs}


def test_the_hashed_lock_has_the_versions_of_the_lock() -> None:
    lock, hashed = versions("constraints.txt"), versions("constraints-hashed.txt")
    assert lock.items() <= hashed.items(), "run: make lock"
    # Of other systems than the one that the lock was made on.
    assert hashed.keys() - lock.keys() <= {"appnope", "colorama", "httpx2-jsfetch", "pywinpty"}


def test_build_requirements_are_exact_and_the_hashed_ones() -> None:
    (needed,) = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"][
        "requires"
    ]
    assert needed == f"setuptools=={versions('constraints-build.txt')['setuptools']}"


def test_every_package_is_pinned_by_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert pins.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len([one for one in found if one["where"] in pins.LOCKS and not one["why"]]) > 150
    params = ("notebooks/params/kind.yaml", "tools/kind/versions.env")
    loose = {one["where"] for one in found if one["why"]}
    images = {"Dockerfile", "Dockerfile.course", ".devcontainer/devcontainer.json"}
    assert loose <= {*images, "qwenkit/settings.py", *params}


def test_wherever_the_course_starts_it_has_the_lock() -> None:
    for name in ("Dockerfile", "Dockerfile.course", ".binder/postBuild", "environment.yml"):
        assert "-c constraints.txt" in (ROOT / name).read_text("utf-8"), name
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text("utf-8"))
    assert container["postCreateCommand"] == "make install"
    assert container["postAttachCommand"].startswith("make lab ")
