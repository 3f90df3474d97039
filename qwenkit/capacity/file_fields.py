"""Read the fields of a file of measurements or of a recording, and name the wrong one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

from qwenkit.errors import InvalidValue


class FileFields:
    """An object of a file, whose fields are checked as they are read."""

    def __init__(self, values: Any, where: str) -> None:
        self.values: Mapping[str, Any] = {} if values is None else values
        self.where = where
        if not isinstance(self.values, Mapping):
            raise InvalidValue(where, values, "an object", "correct the file")

    def part(self, name: str) -> FileFields:
        """Return an object inside this one, empty if it is missing."""
        return FileFields(self.values.get(name), f"{self.where}: {name}")

    def get(self, name: str, default: Any) -> Any:
        """Return a text, list or flag, as the default is, which stands for a missing one."""
        value, kind = self.values.get(name), type(default)
        if value is not None and not isinstance(value, kind):
            raise self.wrong(name, {str: "a text", list: "a list", bool: "true or false"}[kind])
        return default if value is None else value

    def several(self, name: str, kind: Any) -> Iterator[Any]:
        """Yield a dataclass for each object of a list in which nothing needed is missing."""
        needed = [each.name for each in fields(kind) if each.default is MISSING]
        for at, one in enumerate(self.get(name, [])):
            part = FileFields(one, f"{self.where}: {name}[{at}]")
            if all(part.values.get(each) is not None for each in needed):
                yield part.make(kind)

    def make(self, kind: Any, **given: Any) -> Any:
        """Return a dataclass; what is not given is a number in the field of its name."""
        for each in fields(kind):
            if each.name not in given:
                whole = str(each.type).startswith("int")
                given[each.name] = self.number(each.name, each.default, whole=whole)
        return kind(**given)

    def number(self, name: str, default: Any = MISSING, *, whole: bool = False) -> Any:
        """Return a positive number; the default, if there is one, where it is missing or 0."""
        value = self.values.get(name)
        if isinstance(value, str) and re.fullmatch(r"\d{1,9}\.\d{1,9}", value):
            value = float(value)  # as nvidia-smi writes a compute capability
        if default is not MISSING and value in (None, 0) and value is not False:
            return default
        kind = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or not 1e-9 < value < 1e9:
            raise self.wrong(name, f"a {'whole ' * whole}number from 1e-9 to 1e9")
        return value

    def wrong(self, name: str, rule: str) -> InvalidValue:
        """Return the error of a field."""
        value, fix = self.values.get(name), f"correct {name} in the file"
        return InvalidValue(f"{self.where}: {name}", value, rule, fix)
