"""What the API server refuses in an object's own metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from qwenkit.admission.field_errors import FieldError, broken, required
from qwenkit.admission.schema import names

_ANNOTATIONS_BYTES = 256 * 1024


class NameRule(Protocol):
    """A check of ``names``, for the names of one kind."""

    def __call__(self, value: str, *, unit: str) -> list[str]:
        """Return the rules that a name breaks."""


def metadata_errors(
    metadata: Mapping[str, Any], *, name_rule: NameRule = names.dns_1123_subdomain
) -> list[FieldError]:
    """Check name, labels, annotations and finalizers."""
    prefix, name = metadata.get("generateName", ""), metadata.get("name", "")
    found: list[FieldError] = []
    if prefix:
        rules = name_rule(names.as_prefix(prefix), unit="bytes")
        found += broken("metadata.generateName", prefix, rules)
    if name:
        found += broken("metadata.name", name, name_rule(name, unit="bytes"))
    elif not prefix:
        found.append(required("metadata.name", "name or generateName is required"))
    for key, value in sorted(metadata.get("labels", {}).items()):
        found += broken("metadata.labels", key, names.qualified_name(key))
        found += broken("metadata.labels", value, names.label_value(value))
    annotations: dict[str, str] = metadata.get("annotations", {})
    for key in sorted(annotations):
        found += broken("metadata.annotations", key, names.qualified_name(key.lower()))
    if sum(len((key + value).encode()) for key, value in annotations.items()) > _ANNOTATIONS_BYTES:
        message = f"Too long: may not be more than {_ANNOTATIONS_BYTES} bytes"
        found.append(FieldError("FieldValueTooLong", "metadata.annotations", message))
    for finalizer in metadata.get("finalizers", []):
        found += broken("metadata.finalizers", finalizer, names.qualified_name(finalizer))
    return found
