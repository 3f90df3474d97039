"""The layer that each setting's value comes from: one order of precedence everywhere.

Strongest first: a command's own options, ``--set``, params file, a notebook cell's value that
differs from the default, environment, default. An empty value in a file counts as set. What a run
delivers keeps the rank of its layer, and so overrides a cell.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import AliasChoices, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from qwenkit.errors import SettingsError
from qwenkit.language import said
from qwenkit.language.width import columns, padded
from qwenkit.parameters.reading import came_from, from_text, read_mapping, readable, unknown
from qwenkit.untrusted.parsing import parse_json

PREFIX = "QWENKIT_"
_ENVIRONMENT = "the environment"
# How ``qwenkit run`` passes parameters to its notebooks and to the commands that they start.
PARAMETERS = "QWENKIT_PARAMETERS"
# The id of the ``qwenkit run`` that this process belongs to, on each object that it uploads.
RUN_ID = "QWENKIT_RUN_ID"


class _TypedEnvironment(EnvSettingsSource):
    """Environment values are text: read each by the type of its field; empty is not set."""

    settings_cls: type[Layered]

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        for variable in os.environ:
            name = variable.lower().removeprefix(PREFIX.lower())
            ours = variable.startswith(PREFIX) and variable != PARAMETERS
            misspelt = ours and name not in fields
            if misspelt and get_close_matches(name, fields, cutoff=0.8):
                raise unknown(name, fields, variable)
        empty = {
            name: ""
            for name in self.settings_cls.empty_is_set
            if os.environ.get(PREFIX + name.upper()) == ""
        }
        return empty | super().__call__()

    def prepare_field_value(
        self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool
    ) -> Any:
        return value if value is None else from_text(field_name, value, field, _ENVIRONMENT)


class _Delivered(PydanticBaseSettingsSource):
    """What ``qwenkit run`` passes to its notebooks and to the commands that they start."""

    def __call__(self) -> dict[str, Any]:
        return {
            name: value for name, (value, _) in delivered(self.settings_cls.model_fields).items()
        }

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # all fields are read at once


class Layered(BaseSettings):
    """Settings that record the layer of each of their values."""

    empty_is_set: ClassVar[tuple[str, ...]] = ()  # fields that an empty variable sets
    latest: ClassVar[Any] = None  # what a notebook's ``of`` made last: ``check`` looks there

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, **values: Any) -> None:
        fields = type(self).model_fields
        extra = sorted(set(values) - set(fields))
        if extra:
            raise unknown(extra[0], fields)
        handed = {name: origin for name, (_, origin) in delivered(fields).items()}
        origins = {name: _variable(name, field) for name, field in fields.items()}
        origins |= handed | dict.fromkeys(values, "")
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise readable(error, origins) from None
        self._origins = {name: origins[name] for name in self.model_fields_set}

    @classmethod
    def of(cls, cell: Mapping[str, Any]) -> Self:
        """Return a notebook's settings, and print those that differ from their defaults.

            s = Settings.of(globals())

        Args:
            cell: names and values, such as a notebook's ``globals()``. Names of settings with
                plain values that differ from the default count; everything else is ignored.

        Raises:
            SettingsError: an impossible value; the fix names the layer it came from.
        """
        stronger = delivered(cls.model_fields)
        chosen = {
            name: cell[name]
            for name, field in cls.model_fields.items()
            if name in cell and name not in stronger and _differs(cell[name], field.default)
        }
        made = cls._made(chosen, dict.fromkeys(chosen, "the notebook"))
        print(made.changes())
        cls.latest = made
        return made

    @classmethod
    def load(
        cls, params: Path | None = None, text: Mapping[str, str] | None = None, **values: Any
    ) -> Self:
        """Return a command's settings.

        ``params`` is a YAML file, ``text`` holds the ``--set`` pairs, ``values`` the typed values
        of the command's other options, which win.

        Raises:
            SettingsError: an unknown or impossible value.
            NotFound: the params file cannot be read.
        """
        typed = read_mapping(params, cls.model_fields) if params else {}
        read = {name: cls.parse(name, value, "--set") for name, value in (text or {}).items()}
        origins = dict.fromkeys(typed, f"params file {params}") | dict.fromkeys(read, "--set")
        origins |= dict.fromkeys(values, "the command line")
        return cls._made(typed | read | values, origins)

    @classmethod
    def parse(cls, name: str, text: str, origin: str = "") -> Any:
        """Read text by the type of the field ``name``; ``true`` and ``false`` for booleans."""
        if name not in cls.model_fields:
            raise unknown(name, cls.model_fields, origin)
        return from_text(name, text, cls.model_fields[name], origin)

    @classmethod
    def _made(cls, values: Mapping[str, Any], origins: Mapping[str, str]) -> Self:
        try:
            made = cls(**values)
        except SettingsError as error:
            if origins.get(error.name):
                error.fix = "; ".join(filter(None, [error.fix, came_from(origins[error.name])]))
            raise
        made._origins.update({name: origins[name] for name in values if name in origins})
        return made

    @property
    def origins(self) -> dict[str, str]:
        """Where each value is from that is not the default: a layer, in words."""
        return {name: origin or "Python" for name, origin in self._origins.items()}

    @property
    def given(self) -> dict[str, tuple[Any, str]]:
        """The values that neither environment nor default decided, each with its origin."""
        return {
            name: (getattr(self, name), origin)
            for name, origin in self._origins.items()
            if name in self.model_fields_set and not origin.startswith(_ENVIRONMENT)
        }

    def derived(self, values: Mapping[str, Any], origin: str) -> Self:
        """Return a copy in which those fields that nobody set have these values."""
        made = self.model_copy()
        made._origins = dict(self._origins)
        made._derive(values, origin)
        return made

    def _derive(self, values: Mapping[str, Any], origin: str) -> None:
        free = {name: value for name, value in values.items() if name not in self.model_fields_set}
        self.__dict__.update(free)
        self._origins.update(dict.fromkeys(free, f"derived from {origin}"))

    def again(self) -> Self:
        """Return the given values on top of the environment as it is now."""
        given = self.given
        values = {name: value for name, (value, _) in given.items()}
        return self._made(values, {name: origin for name, (_, origin) in given.items()})

    def deliverable(self) -> dict[str, str]:
        """Return the variable that passes the given values to a child process."""
        return {PARAMETERS: json.dumps(self.given, ensure_ascii=False)}

    def changes(self) -> str:
        """Return a table of the values that differ from their defaults, and their origins."""
        rows = [
            (name, getattr(self, name), self._origins.get(name, ""))
            for name, field in type(self).model_fields.items()
            if getattr(self, name) != field.default
        ]
        return table(rows)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read explicit values, then what a run delivered, then the environment."""
        return init_settings, _Delivered(settings_cls), _TypedEnvironment(settings_cls)


def delivered(fields: Mapping[str, FieldInfo]) -> dict[str, tuple[Any, str]]:
    """Return what ``QWENKIT_PARAMETERS`` holds: values and origins by name.

    Raises:
        SettingsError: it is no such JSON, or names a parameter that does not exist.
    """
    text = os.environ.get(PARAMETERS, "")
    try:
        found = {
            name: (value, str(origin)) for name, (value, origin) in parse_json(text or "{}").items()
        }
    except (ValueError, TypeError, AttributeError):
        rule = "must be a JSON object of [value, origin] by parameter; `qwenkit run` writes it"
        raise SettingsError(PARAMETERS, text, rule, f"unset {PARAMETERS}") from None
    for name in found:
        if name not in fields:
            raise unknown(name, fields, PARAMETERS)
    return found


def run_id() -> str:
    """Return the id of the ``qwenkit run`` that this process belongs to, empty outside of one."""
    return os.environ.get(RUN_ID, "")


def _variable(name: str, field: FieldInfo) -> str:
    """Return the origin of a value from the environment: which variable holds it."""
    alias = field.validation_alias
    names = alias.choices if isinstance(alias, AliasChoices) else [PREFIX + name.upper()]
    found = next((str(each) for each in names if os.environ.get(str(each))), None)
    return f"{_ENVIRONMENT} ({found})" if found else _ENVIRONMENT


def _short(name: str, origin: str) -> str:
    """Return a variable's name alone, and none that follows from the setting's: room is scarce."""
    variable = origin.removeprefix(f"{_ENVIRONMENT} (").removesuffix(")")
    return _ENVIRONMENT if variable == PREFIX + name.upper() else variable


def _differs(value: object, default: object) -> bool:
    """Return whether a cell's value is a setting other than the default."""
    if not isinstance(value, str | int | float | None):
        return False  # a variable that happens to have a setting's name
    return value != default or isinstance(value, bool) != isinstance(default, bool)


def table(rows: Iterable[tuple[str, Any, str]]) -> str:
    """Return settings with their values and origins as aligned lines."""
    shown = [
        (said("setting"), said("value"), said("from")),
        *((name, str(value), said(_short(name, origin))) for name, value, origin in rows),
    ]
    if len(shown) == 1:
        return said("all settings have their defaults")
    widths = [max(columns(row[column]) for row in shown) for column in (0, 1)]
    return "\n".join(
        "  ".join((padded(name, widths[0]), padded(value, widths[1]), origin)).rstrip()
        for name, value, origin in shown
    )
