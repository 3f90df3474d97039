"""The fields of built-in kinds, as the models of the official Python client declare them.

Each model is imported when it is first needed; those of a pod take a good part of a second.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from qwenkit.sandbox.kube.kinds import ResourceKind

_CONTAINED = re.compile(r"(?P<form>[Ll]ist|[Dd]ict)[\[(](str, ?)?(?P<of>.*)[\])]")
_QUANTITIES = frozenset(
    {"allocatable", "allocatedResources", "capacity", "divisor", "limits", "requests", "sizeLimit"}
)
_OF_POLICIES = frozenset(
    {"default", "defaultRequest", "hard", "max", "maxLimitRequestRatio", "min", "used"}
)


@dataclass(frozen=True)
class ModelField:
    """A field of ``type``, or a ``list`` or ``dict`` (with string keys) of it, by ``form``.

    ``type`` is a model's name or ``str``, ``int``, ``float``, ``bool``, ``bytes``, ``datetime``,
    ``object``.
    """

    name: str
    form: str
    type: str
    description: str
    required: bool

    @property
    def is_quantity(self) -> bool:
        """Whether it holds quantities such as 500m or 30Gi, which are strings in the models."""
        named = self.name in _QUANTITIES or (self.form == "dict" and self.name in _OF_POLICIES)
        return named and self.type in ("str", "object")


async def ready(kind: ResourceKind) -> None:
    """Import the models for a kind, without blocking the event loop."""
    models = ("V1ObjectMeta", "V1ServiceStatus") if kind.custom else (model_of(kind),)
    await asyncio.to_thread(lambda: [declared(model) for model in models])


def model_of(kind: ResourceKind) -> str:
    """Return the name of a kind's model."""
    name = f"{kind.version.capitalize()}{kind.kind}"
    return name if is_model(name) else f"Core{name}"


def is_model(name: str) -> bool:
    """Return whether a field's type is a model."""
    return hasattr(_models(), name)


def title(model: str) -> str:
    """Return what Kubernetes calls a model: ``Container`` for ``V1Container``."""
    return re.sub(r"^[A-Za-z]*?V\d+((alpha|beta)\d+)?(?=[A-Z])", "", model)


def about(model: str) -> str:
    """Return a model's description."""
    text = (getattr(_models(), model).__doc__ or "").partition("Attributes:")[0]
    return " ".join(text.split())


@cache
def fields(model: str) -> tuple[ModelField, ...]:
    """Return the fields of a model, by their names in JSON."""
    found = getattr(_models(), model)
    # Not model_fields, which would build the validators of every model.
    described: Mapping[str, Any] = getattr(found, "__pydantic_fields__", {})
    return tuple(
        _field(name, found.openapi_types[attribute], described.get(attribute))
        for attribute, name in sorted(found.attribute_map.items(), key=lambda pair: pair[1])
    )


@cache
def declared(model: str) -> dict[str, Any]:
    """Return which fields a model declares, in the form of ``fields.Schema``."""
    return {field.name: _below(field) for field in fields(model)}


def _below(field: ModelField) -> Any:
    if field.form == "dict" or not is_model(field.type):
        return None
    below = declared(field.type)
    return [below] if field.form == "list" else below


def _field(name: str, kind: str, described: Any) -> ModelField:
    contained = _CONTAINED.fullmatch(kind)
    return ModelField(
        name=name,
        form=contained["form"].lower() if contained else "",
        type=contained["of"] if contained else kind,
        description=getattr(described, "description", None) or "",
        required=bool(described is not None and described.is_required()),
    )


@cache
def _models() -> ModuleType:
    return importlib.import_module("kubernetes.client.models")
