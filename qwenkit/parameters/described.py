"""Every parameter by group: value, default, meaning, and where its value is from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files

from pydantic import BaseModel

# In the order in which people read them; a test holds that every setting is in one group.
GROUPS: dict[str, list[str]] = json.loads(
    files("qwenkit.parameters").joinpath("groups.json").read_text("utf-8")
)


def described(found: BaseModel, origins: Mapping[str, str]) -> list[dict[str, object]]:
    """Return a row for each parameter of settings."""
    fields = type(found).model_fields
    return [
        {
            "group": group,
            "name": name,
            "value": getattr(found, name),
            "default": fields[name].default,
            "meaning": fields[name].description,
            "origin": origins.get(name, "default"),
        }
        for group, names in GROUPS.items()
        for name in names
    ]
