"""The whole course in a real JupyterLab: each chapter, language, width and theme.

A chapter runs once, and is then looked at in each way; the sandbox is empty at the beginning.
"""

from __future__ import annotations

import os

import lab
import pytest
import reading

from qwenkit.sandbox import process, state_files

pytestmark = pytest.mark.long

CHAPTERS = [
    str(path.relative_to(reading.NOTEBOOKS).with_suffix(""))
    for language in (reading.NOTEBOOKS, reading.NOTEBOOKS / "zh")
    for path in sorted(language.glob("[0-9][0-9]-*.ipynb"))
]
# As notebooks/params/sandbox.yaml; the weights go, for the next language to upload.
HURRIED = {"QWENKIT_STABLE_WINDOW": "10s", "QWENKIT_DELETE_WEIGHTS": "true"}


@pytest.fixture(scope="module")
def empty_address(folder, tmp_path_factory):
    """Serve the folder against a sandbox of its own, in which nothing is."""
    root = tmp_path_factory.mktemp("whole") / "root"
    process.up(root, state_files.SandboxOptions(time_scale=10))
    try:
        with lab.jupyterlab(folder, os.environ | process.environment(root) | HURRIED) as address:
            yield address
    finally:
        process.down(root)


@pytest.fixture(scope="module", params=CHAPTERS)
def chapter(request, page, empty_address):
    with reading.run(page, empty_address, request.param) as chapter:
        yield chapter


@pytest.mark.parametrize("width", [1024, 1440])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_chapter_can_be_read(chapter, dark, width):
    lab.set_theme(chapter.page, dark=dark)
    problems = chapter.problems(width)
    assert not problems, "\n".join(problems)
