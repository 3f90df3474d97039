"""Judge files that anyone wrote: every document of them, each finding with file and line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from qwenkit.capacity.finding import Finding, Level, worst_first
from qwenkit.manifests.documents import Doc, FieldPlace, at, unreadable
from qwenkit.manifests.lint import examine
from qwenkit.manifests.template import plain
from qwenkit.untrusted.parsing import parse_documents

_TEMPLATE = re.compile(r"\{\{-?\s*[\w.$\"(/#]")


def lint_files(
    files: Iterable[tuple[str, str | ValueError]],
    *,
    features: Mapping[str, str] | None = None,
    gpu: str | None = None,
) -> list[Finding]:
    """Examine files, given as name and text, which belong together; errors come first.

    An error instead of a text says why there is none. What cannot be read is an error where a
    cluster cannot read it either, else a warning.
    """
    found: list[Finding] = []
    docs: list[Doc] = []
    places: dict[int, tuple[str, Node | None]] = {}
    for file, text in files:
        try:
            if isinstance(text, ValueError):
                raise text
            for document in parse_documents(text):
                for node, item in _items(*document):
                    where = f"{file}:{_line(node, '')}"
                    if why := unreadable(item):
                        found.append(_unread("warning", where, why))
                    elif isinstance(item, Mapping):
                        docs.append(plain(item))
                        places[id(docs[-1])] = file, node
                    elif item is not None:
                        found.append(_unread("error", where, "it is no Kubernetes object"))
        except ValueError as error:
            found.append(_unparsed(file, str(text), str(error)))
    judged = examine(docs, features=features, gpu=gpu)
    return worst_first([*found, *(replace(one, where=_where(one, places)) for one in judged)])


def _items(node: Node | None, value: Any) -> Iterator[tuple[Node | None, Any]]:
    """Yield a document, or the items of a list of them, with the kind that the list implies."""
    kind, items = str(at(value, "kind")), at(value, "items")
    if not kind.endswith("List") or not isinstance(items, list):
        yield node, value
        return
    own = {"kind": kind.removesuffix("List"), "apiVersion": value.get("apiVersion")}
    nodes = [child for name, _, child in _children(node) if name == "items"][-1].value
    for child, item in zip(nodes, items, strict=True):
        yield from _items(child, {**own, **item} if isinstance(item, dict) else item)


def _unparsed(file: str, text: str, why: str) -> Finding:
    line = re.match(r"line (\d+): ", why)
    where = f"{file}:{line[1]}" if line else file
    if _TEMPLATE.search(text):
        fix = "render it first: helm template CHART | qwenkit lint -"
        return _unread("warning", where, "it is a template, which no cluster reads", fix)
    bound = "nested" in why or "more than" in why or "values" in why
    return _unread(
        "warning" if bound else "error", where, why.removeprefix(line[0] if line else "")
    )


def _unread(level: Level, where: str, why: str, fix: str = "lint a part of it") -> Finding:
    fix = "mend it: kubectl cannot read it either" if level == "error" else fix
    return Finding(level, "unreadable", where, f"not examined: {why}", fix)


def _where(finding: Finding, places: Mapping[int, tuple[str, Node | None]]) -> str:
    where = finding.where
    if not isinstance(where, FieldPlace) or id(where.doc) not in places:
        return where
    file, node = places[id(where.doc)]
    # A webhook's message names the field at the end of its first line.
    path = where.path or finding.message.partition("\n")[0].rpartition(": ")[2]
    return f"{file}:{_line(node, path)} {where}"


def _line(node: Node | None, path: str, line: int = 0) -> int:
    """Return the line of a field, or of the nearest one around it that is there."""
    line = line or (node.start_mark.line + 1 if node else 1)
    for name, key, child in sorted(_children(node), key=lambda each: -len(each[0])):
        if re.match(rf"{re.escape(name)}([.[ ]|$)", path):
            return _line(child, path[len(name) :].lstrip(". "), key.start_mark.line + 1)
    return line


def _children(node: Node | None) -> list[tuple[str, Node, Node]]:
    """Return name, place and value of what is directly in a node; ``[0]`` for a list's first."""
    if isinstance(node, SequenceNode):
        return [(f"[{index}]", child, child) for index, child in enumerate(node.value)]
    pairs = node.value if isinstance(node, MappingNode) else ()
    return [(str(key.value), key, child) for key, child in pairs]
