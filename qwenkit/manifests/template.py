"""Fill ``${name}`` in YAML: in the parsed tree, never in its text.

A value is put in place after parsing, so no value can add a key, end a string or start a
comment; the template's own comments stay for the reader.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, ScalarString

from qwenkit.errors import InvalidValue

Scalar = str | int | float | bool | None
Filling = Scalar | Sequence[Any] | Mapping[str, Any]
_NAME = re.compile(r"\$\{(\w+)\}")
_COMMENT = re.compile(r"# \$\{(\w+)\}")


def fill(
    template: str, values: Mapping[str, Filling], comments: Mapping[str, str] | None = None
) -> CommentedMap:
    """Parse ``template`` and replace every ``${name}``.

    A scalar that is exactly ``${name}`` takes the value with its type, a list or a mapping too, and
    ``None`` removes its key, and a mapping that is empty without it; inside longer text, and as a
    key, the value is inserted as text. A comment that is exactly ``# ${name}`` takes its text from
    ``comments``; without text it goes.

    Raises:
        InvalidValue: a name without a value, or a value that the template does not use.
    """
    document: CommentedMap = _yaml().load(template)
    used: set[str] = set()
    _explain(document, comments or {})
    _fill_map(document, values, used)
    unused = sorted(set(values) - used)
    if unused:
        raise InvalidValue(unused[0], values[unused[0]], "the template has no such ${name}")
    return document


def to_yaml(documents: Sequence[Mapping[str, object]]) -> str:
    """Write documents as one YAML text, comments kept, separated by ``---``."""
    return "---\n".join(_dump(document) for document in documents)


def plain(node: Any) -> Any:
    """Return a YAML tree as dicts, lists and JSON's scalars: no comments, no styles."""
    if isinstance(node, Mapping):
        return {str(key): plain(child) for key, child in node.items()}
    if isinstance(node, list | tuple):
        return [plain(child) for child in node]
    return node if node is None or type(node) in (bool, int, float) else _plain_scalar(node)


def _plain_scalar(node: object) -> str | int | float:
    for kind in (int, float):
        if isinstance(node, kind):
            return kind(node)
    return str(node)


def _dump(document: Mapping[str, object]) -> str:
    out = io.StringIO()
    _yaml().dump(document, out)
    return out.getvalue()


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 2**20  # a folded command line would be harder to copy
    return yaml


def _explain(node: object, comments: Mapping[str, str]) -> None:
    """Write the comments behind the values, each on its own line whatever it holds."""
    if isinstance(node, CommentedMap | CommentedSeq):
        for key, tokens in list(node.ca.items.items()):
            place = 2 if isinstance(node, CommentedMap) else 0
            found = _COMMENT.match(tokens[place].value) if tokens[place] else None
            if found and not comments[found[1]]:
                del node.ca.items[key]
            elif found:
                text = "".join(char if char.isprintable() else " " for char in comments[found[1]])
                tokens[place].value = f"# {text}{tokens[place].value[found.end() :]}"
        for child in node.values() if isinstance(node, CommentedMap) else node:
            _explain(child, comments)


def _fill_map(node: CommentedMap, values: Mapping[str, Filling], used: set[str]) -> None:
    for tokens in node.ca.items.values():
        if tokens[2] is not None:
            tokens[2].column = 0  # the template's column does not fit another value
    for key, child in list(node.items()):
        had = bool(child)
        filled = _filled(child, values, used)
        emptied = isinstance(child, CommentedMap) and had and not filled
        name = _fill_text(key, values, used) if isinstance(key, str) else key
        if emptied or (filled is None and child is not None):
            del node[key]
        elif name != key:
            place, tokens = list(node).index(key), node.ca.items.pop(key, None)
            del node[key]
            node.insert(place, str(name), filled)
            if tokens:
                node.ca.items[str(name)] = tokens
        else:
            node[key] = filled


def _filled(child: object, values: Mapping[str, Filling], used: set[str]) -> object:
    if isinstance(child, CommentedMap):
        _fill_map(child, values, used)
    elif isinstance(child, CommentedSeq):
        for index, item in reversed(list(enumerate(child))):
            child[index] = filled = _filled(item, values, used)
            if isinstance(item, CommentedMap) and not filled:
                del child[index]
    elif isinstance(child, str):
        return _fill_text(child, values, used)
    return child


def _fill_text(text: str, values: Mapping[str, Filling], used: set[str]) -> Filling:
    whole = _NAME.fullmatch(text)
    if whole:
        return _styled(_value(whole[1], values, used), text)
    if not _NAME.search(text):
        return text
    return _styled(_NAME.sub(lambda found: str(_value(found[1], values, used)), text), text)


def _value(name: str, values: Mapping[str, Filling], used: set[str]) -> Filling:
    if name not in values:
        raise InvalidValue(name, "", "the template uses this name and no value was given")
    used.add(name)
    return values[name]


def _styled(value: Filling, template: str) -> Filling:
    # Line breaks and control characters only survive as escapes.
    if isinstance(value, str) and (isinstance(template, ScalarString) or not value.isprintable()):
        quoted: str = DoubleQuotedScalarString(value)
        return quoted
    return value
