"""Chapters in a real JupyterLab, run from top to bottom, and read as a person reads them.

Here 05 and 06, and one in Chinese, each in one theme; ``test_whole_course.py`` has the rest.
"""

from __future__ import annotations

import lab
import pytest
import reading

WIDTHS = (1024, 1440)
CHINESE = ("zh/02-storage", "zh/03-deploy")  # the first that is there
there = [name for name in CHINESE if (reading.NOTEBOOKS / f"{name}.ipynb").exists()][:1]
chosen = [("05-autoscaling", False), ("06-load-test", True), *((name, True) for name in there)]


@pytest.mark.parametrize(("name", "dark"), chosen, ids=[name for name, _ in chosen])
def test_a_chapter_runs_and_can_be_read(name, dark, page, address):
    with reading.run(page, address, name) as chapter:
        lab.set_theme(page, dark=dark)
        for width in WIDTHS:
            problems = chapter.problems(width)
            assert not problems, "\n".join([f"{width} px", *problems])
