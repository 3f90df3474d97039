"""Parse YAML and JSON that others wrote: every failure is a ``ValueError``, soon and cheap.

YAML is read by its version 1.2. A deep or endless text is refused while it is scanned, before
anything is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
)
from ruamel.yaml.nodes import Node
from ruamel.yaml.parser import Parser
from ruamel.yaml.scanner import Scanner

_MOST_DEPTH = 100
_MOST_NODES = 20_000


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is no JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(text: str, *, aliases: bool = False) -> Any:
    """Return the value of one YAML document; ``aliases`` allows them.

    Raises:
        ValueError: it is no YAML, or exceeds a bound. The message quotes little of the text.
    """
    found = _read(text, "load", aliases=aliases)
    if aliases and sum(1 for _ in _values(found)) > _MOST_NODES:
        raise ValueError(f"its aliases expand to more than {_MOST_NODES:,} values")
    return found


def compose_yaml(text: str) -> Node | None:
    """Return the nodes of one YAML document without aliases, None for an empty one.

    Raises:
        ValueError: as for ``parse_yaml``.
    """
    found: Node | None = _read(text, "compose", aliases=False)
    return found


def parse_documents(text: str) -> Iterator[tuple[Node, Any]]:
    """Yield the nodes and the value of each YAML document; times and dates stay text.

    Raises:
        ValueError: as for ``parse_yaml``; what stands before the mistake was yielded.
    """
    yaml = _reader(_Parser)
    with _bounded():
        for node in yaml.compose_all(text):
            value = _Constructor(loader=yaml).construct_document(node)
            if sum(1 for _ in _values(value)) > _MOST_NODES:
                raise _Bound("its aliases expand to too many values")
            yield node, value


def _read(text: str, how: str, *, aliases: bool) -> Any:
    with _bounded():
        return getattr(_reader(_Parser if aliases else _NoAliases), how)(text)


def _reader(parser: type[Parser]) -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner, yaml.Parser = _Scanner, parser
    yaml.composer.warn_double_anchors = False
    return yaml


@contextmanager
def _bounded() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        why = str(error.problem or error.context).partition(" with value")[0]
        raise ValueError(f"{place}{why}") from None
    except YAMLError as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    except _Bound:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        # Ruamel's constructors of dates, flags and numbers quote the value, which may be secret.
        raise ValueError("a number, a date or a flag cannot be read") from None


class _Bound(ValueError):
    """A bound of this module is exceeded."""


class _Scanner(Scanner):
    """Refuses deep nesting in ``[`` and ``{``, whose scanning takes quadratic time."""

    def fetch_flow_collection_start(self, *arguments: Any, **options: Any) -> Any:
        if len(self.flow_context) > _MOST_DEPTH:
            raise _Bound("it is nested too deeply")
        return super().fetch_flow_collection_start(*arguments, **options)


class _Parser(Parser):
    """Counts depth and values while they are parsed."""

    depth = count = 0

    def get_event(self) -> Any:
        event = super().get_event()
        self.count = 0 if isinstance(event, DocumentStartEvent) else self.count + 1
        self.depth += isinstance(event, CollectionStartEvent)
        self.depth -= isinstance(event, CollectionEndEvent)
        if self.depth > _MOST_DEPTH:
            raise _Bound("it is nested too deeply")
        if self.count > _MOST_NODES:
            raise _Bound(f"it has more than {_MOST_NODES:,} values")
        return event


class _NoAliases(_Parser):
    def get_event(self) -> Any:
        event = super().get_event()
        if isinstance(event, AliasEvent):
            raise _Bound("it uses aliases (*name); write the values out")
        return event


class _Constructor(SafeConstructor):
    """Makes values as Kubernetes does, which has no dates."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def _values(value: Any) -> Iterator[Any]:
    """Yield every value that an alias makes visible, up to one more than the bound."""
    waiting, seen = [value], 0
    while waiting and seen <= _MOST_NODES:
        one = waiting.pop()
        seen += 1
        yield one
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
