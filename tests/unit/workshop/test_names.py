"""The list of names that an instructor has, as spreadsheets save it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenkit.cli.workshop.group import _people
from qwenkit.errors import InvalidValue


def test_names_are_the_first_column_without_marks(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_text("\ufeffname,mail\r\n李明,a\r\n\r\n李明,b\r\nAn\x1bn,c\r\n", "utf-8")
    assert _people(0, file) == ["李明", "李明", "Ann"]
    assert _people(4, file) == ["李明", "李明", "Ann", ""]


def test_another_encoding_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    for encoding in ("gbk", "utf-16"):
        file.write_text("李明\n", encoding)
        with pytest.raises(InvalidValue, match="UTF"):
            _people(0, file)
