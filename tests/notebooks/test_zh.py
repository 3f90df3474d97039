"""The Chinese notebooks: in step with the English ones, and readable by themselves."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import sync_zh
from places import ROOT

FOLDER = ROOT / "notebooks"
PAIRS = sync_zh.pairs(FOLDER)
each = pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[path.stem for path, _ in PAIRS])
LINK = re.compile(r"\]\(([^)\s]+)\)")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# "请在Pod里" and "Pod里" want a blank; a half-width comma stands in no Chinese sentence.
CROWDED = re.compile(r"[\u4e00-\u9fff][A-Za-z]|[A-Za-z][\u4e00-\u9fff]|[\u4e00-\u9fff][,;!?]")


def prose(path: Path) -> dict[str, str]:
    cells = sync_zh.read(path)["cells"]
    return {c["id"]: sync_zh.text(c) for c in cells if c["cell_type"] == "markdown"}


@each
def test_cells_code_and_prose_are_in_step(ours: Path, theirs: Path) -> None:
    assert list(sync_zh.problems(sync_zh.read(ours), sync_zh.read(theirs))) == []


@each
def test_it_links_to_the_same_places(ours: Path, theirs: Path) -> None:
    def targets(path: Path) -> set[str]:
        found = LINK.findall("\n".join(prose(path).values()))
        return {link.removeprefix("../") for link in found if "://" not in link}

    assert targets(theirs) == targets(ours)


@each
def test_the_prose_is_set_as_chinese_is(ours: Path, theirs: Path) -> None:
    for name, markdown in prose(theirs).items():
        plain = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|<[^>]*>", "", markdown, flags=re.DOTALL)
        assert not CROWDED.findall(plain), name
        assert "您" not in plain, name


def test_the_index_lists_every_notebook_with_its_title_and_minutes() -> None:
    index = (FOLDER / "zh" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| (.+?) \| (\d+) 分钟 \|", index, re.MULTILINE)
    expected = []
    for path in sorted((FOLDER / "zh").glob("[0-9]*.ipynb")):
        title = prose(path)["title"].splitlines()[0].removeprefix("# ").split(" · ")[1]
        minutes = str(sync_zh.read(path)["metadata"]["qwenkit"]["minutes"])
        expected.append((path.stem, path.name, title, minutes))
    assert rows == expected


def test_the_chinese_readme_has_the_commands_and_links_of_the_english_one() -> None:
    ours, theirs = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh-CN.md"))
    blocks = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    assert [block for block in blocks.findall(ours) if block not in theirs] == []
    found = {link.replace("notebooks/zh/", "notebooks/") for link in LINK.findall(theirs)}
    assert {link for link in LINK.findall(ours) if "://" not in link} - found == {"README.zh-CN.md"}
    missing = {link for link in LINK.findall(theirs) if "://" not in link}
    assert [link for link in missing if not (ROOT / link.partition("#")[0]).exists()] == []


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A course of one notebook, and its Chinese."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(FOLDER / "02-storage.ipynb", folder)
    sync_zh.main([], folder)
    ids = prose(folder / "02-storage.ipynb")
    prepared = tmp_path / "prose.md"
    commands = {name: "\n".join(sync_zh._COMMANDS.findall(text)) for name, text in ids.items()}
    prepared.write_text("".join(f"%% {name}\n# 存储卷\n{commands[name]}\n" for name in ids))
    assert sync_zh.main(["--write", "02", str(prepared)], folder) == 0
    assert sync_zh.main(["--check"], folder) == 0
    return folder


def change(path: Path, name: str, **fields: object) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    next(cell for cell in notebook["cells"] if cell["id"] == name).update(fields)
    path.write_text(json.dumps(notebook), "utf-8")


@pytest.mark.parametrize(
    ("file", "name", "fields", "why"),
    [
        ("02-storage.ipynb", "why", {"source": ["New."]}, "its English has changed since"),
        ("02-storage.ipynb", "why", {"id": "reason"}, "the Chinese notebook lacks it"),
        ("zh/02-storage.ipynb", "why", {"source": ["The console."]}, "it has no Chinese"),
        ("zh/02-storage.ipynb", "lint", {"source": ["pass"]}, "the code differs"),
        ("zh/02-storage.ipynb", "lint", {"metadata": {"tags": ["x"]}}, "the tags differ"),
        ("zh/02-storage.ipynb", "when-it-goes-wrong", {"source": ["无"]}, "its commands differ"),
    ],
)
def test_a_pair_out_of_step_is_named_by_its_cell(
    copied: Path, file: str, name: str, fields: dict, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(copied / file, name, **fields)
    capsys.readouterr()
    assert sync_zh.main(["--check"], copied) == 1
    line = f"notebooks/zh/02-storage.ipynb: cell {fields.get('id', name)}: {why}"
    assert line in capsys.readouterr().out


def test_new_code_is_taken_over_and_old_chinese_stays(copied: Path) -> None:
    change(copied / "02-storage.ipynb", "lint", source=["lint(documents)"])
    change(copied / "02-storage.ipynb", "about-lint", source=["Another sentence."])
    sync_zh.main([], copied)
    found = sync_zh.read(copied / "zh" / "02-storage.ipynb")["cells"]
    assert ["lint(documents)"] in [cell["source"] for cell in found]
    assert prose(copied / "zh" / "02-storage.ipynb")["about-lint"].startswith("# 存储卷")
    assert sync_zh.main(["--check"], copied) == 1
    sync_zh.main(["--accept", "02", "about-lint"], copied)
    assert sync_zh.main(["--check"], copied) == 0
