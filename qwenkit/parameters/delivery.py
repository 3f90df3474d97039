"""How ``qwenkit run`` passes parameters to its notebooks and to the commands that they start.

One environment variable holds all of them, each with the layer that it came from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from qwenkit.errors import SettingsError
from qwenkit.parameters.reading import unknown

PARAMETERS = "QWENKIT_PARAMETERS"


def deliver(given: Mapping[str, tuple[Any, str]]) -> str:
    """Return parameters and their origins as one JSON text for ``QWENKIT_PARAMETERS``."""
    return json.dumps(given, ensure_ascii=False)


def delivered(fields: Mapping[str, FieldInfo]) -> dict[str, tuple[Any, str]]:
    """Return what ``QWENKIT_PARAMETERS`` holds: values and origins by name.

    Raises:
        SettingsError: it is no such JSON, or names a parameter that does not exist.
    """
    text = os.environ.get(PARAMETERS, "")
    try:
        found = {
            name: (value, str(origin)) for name, (value, origin) in json.loads(text or "{}").items()
        }
    except (ValueError, TypeError, AttributeError):
        rule = "must be a JSON object of [value, origin] by parameter; `qwenkit run` writes it"
        raise SettingsError(PARAMETERS, text, rule, f"unset {PARAMETERS}") from None
    for name in found:
        if name not in fields:
            raise unknown(name, fields, PARAMETERS)
    return found
