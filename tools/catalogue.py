"""The texts of qwenkit that a person sees, and the entries of the Chinese catalogue.

    python tools/catalogue.py           lists texts without an entry, and entries without a text
    python tools/catalogue.py --sort    sorts the catalogue, each English text once
    python tools/catalogue.py --unused  removes the entries that no text needs

A text is any string of the package with two words in it, but for docstrings (those of commands
are their help) and for what ``OTHERS_WORDS`` names; and every text of its TOML tables. Values in
an f-string, or ``{name}`` in a table, are the template's ``{0}``, ``{1}`` ….
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "qwenkit"
CATALOGUE = PACKAGE / "language" / "zh.toml"
# These repeat what a webhook, a kubelet, OSS or vLLM says, word for word: English on a cluster too.
OTHERS_WORDS = (
    "admission/",
    *(
        f"sandbox/{room}/"
        for room in ("controllers", "engine", "hub", "kube", "kubelet", "oss", "traffic")
    ),
)
TABLES = ("cluster/diagnosis/signatures.toml", "cluster/diagnosis/causes/rows.toml")
PAGES = ("course/index.html", "plan/plan.html")
TEXTS_IN_TABLES = {"cause", "fix", "title", "task", "hints", "solution", "passed", "wrong"}
_WORDS = re.compile(r"[A-Za-z]{2,}[,:;]? (?:[A-Za-z]|\{)|[A-Za-z}] [a-z]{2,}|[a-z]{2}: \{")
# Patterns, styles, headers, queries and programs are no text.
NO_TEXT = re.compile(
    r"%\.?\d*s|\\[.bdswSWAZ]|\(\?|^[\w-]+:[\w#-]+;|style=|^</?\w|#!/|^[a-z-]+/[a-z-]+; |^\s*import "
)
# Calls all of whose strings are texts, also a single word.
LABELLING = {"said", "show_table", "LiveWait", "grid", "foot", "legend", "steps", "area", "words"}
_LETTERS = re.compile("[A-Za-z]{2}")
_HOLE = re.compile(r"\{\w*\}")


def texts() -> dict[str, str]:
    """Return every text that needs an entry, as a template, and where it stands."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if not name.startswith(OTHERS_WORDS):
            for line, text in of_code(ast.parse(path.read_text("utf-8")), name):
                found.setdefault(text, f"{name}:{line}")
    exercises = sorted((PACKAGE / "exercises" / "texts").glob("*.toml"))
    for path in [*(PACKAGE / table for table in TABLES), *exercises]:
        for text in of_table(tomllib.loads(path.read_text("utf-8"))):
            found.setdefault(text, str(path.relative_to(PACKAGE)))
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        if "zh" not in path.parts:
            for text in of_notebook(json.loads(path.read_text("utf-8"))):
                found.setdefault(text, path.name)
    for page in PAGES:
        for text in of_page((PACKAGE / page).read_text("utf-8")):
            found.setdefault(text, page)
    return found


def of_notebook(notebook: dict[str, Any]) -> Iterator[str]:
    """Yield the texts of a notebook's code: headings of tables, what is waited for."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            yield from (text for _, text in [*_labels(tree), *of_code(tree, "notebook")])
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "record":
                    names = {one.arg for one in node.keywords} - {None, "waited", "pictures"}
                    yield from (f"{name}: {{0}}" for name in names)


def of_page(page: str) -> Iterator[str]:
    """Yield the texts between the tags of a Jinja template; what it fills in is a hole."""
    body = re.sub(r"<(style|pre|code|svg)\b.*?</\1>|<!.*?>", "<>", page, flags=re.DOTALL)
    body = re.sub(r"\{\{.*?\}\}", "\0", re.sub(r"\{%.*?%\}", "><", body))
    for node in re.findall(r">([^<>]+)<", body):
        pieces = node.split("\0")
        text = "".join(f"{{{n - 1}}}" * (n > 0) + _escaped(part) for n, part in enumerate(pieces))
        if _LETTERS.search(_HOLE.sub("", text)):
            yield " ".join(text.split())


def of_code(tree: ast.Module, name: str) -> Iterator[tuple[int, str]]:
    """Yield line and template of the texts in a module."""
    passed_over = set(_docstrings(tree))
    if name.startswith("cli/"):
        yield from _helps(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            passed_over.update(map(id, node.values))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "rule":
            passed_over.update(map(id, node.args))  # kinds and verbs
    for node in ast.walk(tree):
        if id(node) in passed_over:
            continue
        text = template(node)
        if (
            _WORDS.search(text)
            and not NO_TEXT.search(text)
            and _LETTERS.search(_HOLE.sub("", text))
        ):
            yield node.lineno, text.strip()
    yield from _labels(tree)


def template(node: ast.AST) -> str:
    """Return a string of the code as a template; empty for everything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _escaped(node.value)
    if not isinstance(node, ast.JoinedStr):
        return ""
    parts, holes = [], 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(_escaped(part.value))
        else:
            parts.append(f"{{{holes}}}")
            holes += 1
    return "".join(parts)


def of_table(table: object, name: str = "") -> Iterator[str]:
    """Yield the texts of a TOML table as templates, whatever they are nested in."""
    if isinstance(table, dict):
        for key, value in table.items():
            yield from of_table(value, key if key in TEXTS_IN_TABLES else name)
    elif isinstance(table, list):
        for value in table:
            yield from of_table(value, name)
    elif isinstance(table, str) and name:
        first, *rest = map(_escaped, _HOLE.split(table.strip()))
        yield first + "".join(f"{{{number}}}{part}" for number, part in enumerate(rest))


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _docstrings(tree: ast.Module) -> Iterator[int]:
    """Yield the ids of all docstrings, and of the strings that describe an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)


def _helps(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of the docstrings that are a command's help."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and _is_command(node):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                if paragraph:
                    yield node.lineno, _escaped(" ".join(paragraph.split()))


def _is_command(node: ast.FunctionDef) -> bool:
    options = {"Params", "Set", "Context", "Root", "Yes", "Json"}
    marks = [ast.unparse(each) for each in node.decorator_list]
    marks += [ast.unparse(arg.annotation) for arg in node.args.args if arg.annotation]
    return not node.name.startswith("_") and any(
        "typer." in mark or ".command" in mark or ".callback" in mark or mark in options
        for mark in marks
    )


def _labels(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in LABELLING:
                strings = [*node.args, *(word.value for word in node.keywords)]
                keys = [key for one in strings if isinstance(one, ast.Dict) for key in one.keys]
                for one in [*strings, *filter(None, keys)]:
                    text = template(one).strip()
                    if re.search("[A-Za-z]{2}", text) and not text.startswith("#"):
                        yield one.lineno, text


def read() -> dict[str, str]:
    """Return the catalogue's entries."""
    return tomllib.loads(CATALOGUE.read_text("utf-8"))


def write(entries: dict[str, str]) -> None:
    """Write entries, sorted, under the comment at the top of the file."""
    comment = [line for line in CATALOGUE.read_text("utf-8").splitlines() if line.startswith("#")]
    lines = [f"{quoted(key)} = {quoted(text)}" for key, text in sorted(entries.items())]
    CATALOGUE.write_text("\n".join([*comment, *lines]) + "\n", "utf-8")


def quoted(text: str) -> str:
    """Return a string as both TOML and JSON write it."""
    return json.dumps(text, ensure_ascii=False)


def main(arguments: list[str]) -> int:
    """Do as the options say; return 1 if an entry is missing."""
    if arguments == ["--sort"]:
        lines = {}  # a merge may have left a line twice
        for line in CATALOGUE.read_text("utf-8").splitlines():
            if line.startswith('"'):
                lines |= tomllib.loads(line)
        write(lines)
        return 0
    entries, wanted = read(), texts()
    unused = sorted(entries.keys() - wanted.keys())
    if arguments == ["--unused"]:
        write({key: text for key, text in entries.items() if key in wanted})
        return 0
    missing = {text: place for text, place in wanted.items() if text not in entries}
    for text, place in missing.items():
        print(f"{place}: no entry: {quoted(text)}")
    for text in unused:
        print(f"no text: {quoted(text)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
