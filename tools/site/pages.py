"""The pages: Sphinx on the course's notebooks and texts, in English and in Chinese."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import environment
from sources import CHINESE, ENGLISH, HOME, PICTURES, ROOT, Sources

_WORDS = {
    ENGLISH: {"course": "The course", "library": "The library", "api": "Names and modules"},
    CHINESE: {"course": "课程", "library": "", "api": ""},
}


def build(python: Path, out: Path) -> None:
    """Build the pages into a folder; those in Chinese into ``zh`` in it."""
    names = front_room()
    folders = {
        language: environment.CACHE / "sources" / language
        for language, home in HOME.items()
        if (ROOT / home).exists()
    }
    linked: set[PurePosixPath] = set()
    for language in (each for each in (CHINESE, ENGLISH) if each in folders):
        linked = _write(language, folders[language], names, linked)
    for language, folder in folders.items():
        environment.say(f"pages in {language}")
        chinese = language == CHINESE
        words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-j", "auto", "-c", environment.HERE]
        words += ["-D", f"language={'zh_CN' if chinese else 'en'}"]
        words += ["-d", environment.CACHE / "doctrees" / language]
        to = out / CHINESE if chinese else out
        environment.call(
            [python, *words, folder, to],
            why=f"Sphinx did not build the pages in {language}",
            fix="mend what it names; a warning counts as an error",
        )
        # Sphinx copies what Markdown shows, and not what HTML in it does.
        pictures = (each for each in folder.rglob("*") if each.suffix in PICTURES)
        for picture in pictures:
            place = to / picture.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, place)


def _write(
    language: str, folder: Path, names: dict[str, str], linked: set[PurePosixPath]
) -> set[PurePosixPath]:
    """Write the sources of a language, ``linked`` too; return what is linked in the other one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sources = Sources(language, folder, tuple(sorted(set(names.values()))))
    course = sources.write(*sorted(linked))
    if sources.missing:
        raise SystemExit("site: links that lead nowhere:\n" + "\n".join(sources.missing))
    _contents(language, folder, course)
    if language == ENGLISH:
        _api(folder / "api", names)
    _strays(folder, course)
    return sources.elsewhere


def front_room() -> dict[str, str]:
    """Return the names of ``qwenkit.__all__`` and their modules, in the order of the course."""
    source = (ROOT / "qwenkit" / "__init__.py").read_text("utf-8")
    for line in ast.parse(source).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "_MODULES":
            return dict(ast.literal_eval(line.value))
    raise SystemExit("site: qwenkit/__init__.py has no _MODULES")


def _contents(language: str, folder: Path, course: Iterable[PurePosixPath]) -> None:
    """Add the table of contents to the home page."""
    words, home = _WORDS[language], folder / "index.md"
    text = home.read_text("utf-8") + _toctree(words["course"], course)
    if language == ENGLISH:
        text += _toctree(words["library"], [PurePosixPath("api/index")])
    home.write_text(text, "utf-8")


def _toctree(caption: str, pages: Iterable[PurePosixPath]) -> str:
    lines = "\n".join(str(page.with_suffix("") if page.suffix else page) for page in pages)
    return f"\n```{{toctree}}\n:hidden:\n:maxdepth: 1\n:caption: {caption}\n\n{lines}\n```\n"


def _strays(folder: Path, course: Iterable[PurePosixPath]) -> None:
    """Mark the pages that only links lead to, not the table of contents."""
    listed = {*(folder / each for each in course), folder / "index.md"}
    for page in folder.rglob("*.md"):
        if page not in listed and "api" not in page.relative_to(folder).parts:
            page.write_text("---\norphan: true\n---\n\n" + page.read_text("utf-8"), "utf-8")


def _api(folder: Path, names: dict[str, str]) -> None:
    """Write a page of all names of the front room, and one for each module behind them."""
    folder.mkdir()
    modules = list(dict.fromkeys(names.values()))
    rows = "\n".join(
        f'| <a href="{module}.html#{module}.{name}"><code>{name}</code></a> '
        f"| {_about(module, name)} |"
        for name, module in names.items()
    )
    listed = "\n".join(modules)
    text = f"""# Names and modules

These names are what notebooks and scripts use, in the order of the course:
`from qwenkit import …`. Behind each stands a module, with more than is listed here.

| Name | What it is |
|---|---|
{rows}

```{{toctree}}
:maxdepth: 1
:hidden:

{listed}
```
"""
    (folder / "index.md").write_text(text, "utf-8")
    for module in modules:
        page = f"# {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n"
        (folder / f"{module}.md").write_text(page, "utf-8")


def _about(module: str, name: str) -> str:
    """Return the first sentence of a name's docstring, read without importing it."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for each in ast.parse(file.read_text("utf-8")).body:
        if getattr(each, "name", "") == name:
            found = ast.get_docstring(each) or ""
            return re.sub(r"``", "`", found.split("\n\n")[0].replace("\n", " ")).replace("|", "\\|")
    return ""
