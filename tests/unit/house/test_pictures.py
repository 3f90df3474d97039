"""The course's pictures are those that tools/pictures.py draws, in both languages."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DRAWN = runpy.run_path(str(ROOT / "tools" / "pictures.py"))["draw"]()


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_a_picture_is_current(path):
    assert path.read_text("utf-8") == DRAWN[path], "run python tools/pictures.py"
    assert ElementTree.fromstring(DRAWN[path]).get("aria-label")
