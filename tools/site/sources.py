"""What the pages are made from: the repository's own texts and notebooks, laid out for Sphinx.

Links in the repository lead from file to file. Here each is turned into one between pages, which
works from any folder: a page, a module's documentation, or a file's text.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import environment

ROOT, ENGLISH, CHINESE = environment.ROOT, "en", "zh"
HOME = {ENGLISH: PurePosixPath("README.md"), CHINESE: PurePosixPath("README.zh-CN.md")}
COURSE, TWIN = PurePosixPath("notebooks"), PurePosixPath("notebooks/zh")
PICTURES = (".svg", ".png", ".gif", ".jpg")
# Code stays as it is; so do links to elsewhere, and those within a page.
_LINK = re.compile(
    r"(?P<code>^ *```.*?^ *```|`[^`\n]+`)"
    r"|(?P<picture>!?)\[(?P<words>(?:\\.|\[[^\]]*\](?:\([^)]*\))?|[^\[\]\\])*)\]"
    r"\((?!\w+:)(?P<to>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)",
    re.MULTILINE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r"(?P<name>\b(?:src|srcset|href)=\")(?!\w+:|#)(?P<to>[^\"#]+)")


class Sources:
    """The pages of one language, written into a folder for Sphinx.

    ``modules`` are those that have a page of their own; ``missing`` are links that lead nowhere,
    ``elsewhere`` the files that are linked to and have their page in the other language.
    """

    def __init__(self, language: str, folder: Path, modules: tuple[str, ...]) -> None:
        self._language, self._folder, self._modules = language, folder, modules
        self._waiting: list[PurePosixPath] = []
        self.missing: list[str] = []
        self.elsewhere: set[PurePosixPath] = set()
        self.written: set[PurePosixPath] = set()

    def write(self, *also: PurePosixPath) -> list[PurePosixPath]:
        """Write the home page, the course, ``also``, and all they lead to.

        Return the course's pages, in order.
        """
        here = TWIN if self._language == CHINESE else COURSE
        chapters = sorted(path.relative_to(ROOT) for path in (ROOT / here).glob("*.ipynb"))
        course = [PurePosixPath(path) for path in chapters]
        others = [here / "README.md", here / "lite" / "autoscaling.ipynb", here / "glossary.md"]
        course = [each for each in (others[0], *course, *others[1:]) if (ROOT / each).exists()]
        self._waiting = [HOME[self._language], *course, *also]
        while self._waiting:
            path = self._waiting.pop()
            if path not in self.written:
                self.written.add(path)
                self._write(path)
        return [self._page(each) for each in course]

    def _write(self, path: PurePosixPath) -> None:
        source, to = ROOT / path, self._folder / self._page(path)
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            notebook = json.loads(source.read_text("utf-8"))
            for cell in notebook["cells"]:
                if cell["cell_type"] == "markdown":
                    cell["source"] = self._linked("".join(cell["source"]), path)
            to.write_text(json.dumps(notebook), "utf-8")
        elif path.suffix == ".md":
            to.write_text(self._linked(source.read_text("utf-8"), path), "utf-8")
        else:
            to.write_text(_as_page(path), "utf-8")

    def _linked(self, text: str, path: PurePosixPath) -> str:
        """Return a text with its links turned into those between pages."""

        def link(found: re.Match[str]) -> str:
            if found["code"]:
                return found[0]
            to = self._resolved(found["to"], path)
            if found["picture"]:
                self._copy(to, path)
                return f"![{found['words']}]({self._way(to, path)})"
            words = _LINK.sub(link, found["words"])
            return f'<a href="{self._way(to, path)}{found["anchor"] or ""}">{words}</a>'

        def attribute(found: re.Match[str]) -> str:
            to = self._resolved(found["to"], path)
            self._copy(to, path)
            return f"{found['name']}{self._way(to, path)}"

        return _LINK.sub(link, _ATTRIBUTE.sub(attribute, text))

    def _resolved(self, to: str, path: PurePosixPath) -> PurePosixPath:
        found = PurePosixPath(os.path.normpath(path.parent / to))
        if not (ROOT / found).exists():
            self.missing.append(f"{path}: {to}")
        return found

    def _copy(self, to: PurePosixPath, path: PurePosixPath) -> None:
        """Copy a picture to where the page looks for it."""
        if to.suffix in PICTURES and (ROOT / to).exists():
            page = (self._folder / self._page(path)).parent
            beside = Path(os.path.normpath(page / self._way(to, path)))
            beside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / to, beside)

    def _way(self, to: PurePosixPath, path: PurePosixPath) -> str:
        """Return the address of a file's page as seen from another page."""
        if to.suffix in PICTURES:
            target = self._place(to)
        elif (module := _module(to)) in self._modules:
            target = self._place(PurePosixPath("api", f"{module}.html"), ENGLISH)
        else:
            language = CHINESE if to == HOME[CHINESE] or TWIN in to.parents else ENGLISH
            if (ROOT / to).exists():
                own = language == self._language
                (self._waiting.append if own else self.elsewhere.add)(to)
            target = self._place(self._page(to).with_suffix(".html"), language)
        return os.path.relpath(target, self._place(self._page(path)).parent)

    def _place(self, page: PurePosixPath, language: str = "") -> PurePosixPath:
        """Return where a page stands in the site: those in Chinese have a folder of their own."""
        if TWIN in page.parents:
            page = COURSE / page.relative_to(TWIN)
        return CHINESE / page if (language or self._language) == CHINESE else page

    def _page(self, path: PurePosixPath) -> PurePosixPath:
        """Return the source file of a file's page, relative to the folder of its language."""
        if path in HOME.values():
            return PurePosixPath("index.md")
        if TWIN in path.parents:
            path = COURSE / path.relative_to(TWIN)
        if path.suffix in (".md", ".ipynb"):
            return path
        return PurePosixPath("files", f"{path}.md")


def _module(path: PurePosixPath) -> str:
    """Return the name of a Python file's module, empty for other files."""
    if path.suffix != ".py":
        return ""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _as_page(path: PurePosixPath) -> str:
    """Return a page that shows a file, or lists a folder."""
    place = ROOT / path
    if place.is_dir():
        rows = "\n".join(f"- `{name}`{about}" for name, about in _listed(place))
        return f"# {path}/\n\n{rows}\n"
    kinds = {".py": "python", ".json": "json", ".yaml": "yaml", ".sh": "bash", ".toml": "toml"}
    fence = "`" * 8
    shown = place.read_text("utf-8")
    return f"# {path}\n\n{fence}{kinds.get(path.suffix, 'text')}\n{shown}\n{fence}\n"


def _listed(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the names in a folder, each with the first line of its docstring."""
    for each in sorted(folder.iterdir()):
        if each.name.startswith(("__pycache__", ".")):
            continue
        file = each / "__init__.py" if each.is_dir() else each
        begin = file.read_text("utf-8") if file.suffix == ".py" and file.exists() else ""
        about = re.match(r'(?:#!.*\n)?"""(.+?)(?:"""|\n|$)', begin)
        yield each.name + "/" * each.is_dir(), f": {about[1]}" if about else ""
