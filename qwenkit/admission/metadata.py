"""What the API server says about an object's own metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from qwenkit.admission.schema import names

_ANNOTATIONS_BYTES = 256 * 1024


def metadata_complaints(metadata: Mapping[str, Any]) -> list[str]:
    """Check name, labels, annotations and finalizers; one complaint each, with its path."""
    prefix, name = metadata.get("generateName", ""), metadata.get("name", "")
    found: list[str] = []
    if prefix:
        rules = names.dns_1123_subdomain(names.as_prefix(prefix), unit="bytes")
        found += _invalid("metadata.generateName", prefix, rules)
    if not name:
        found.append("metadata.name: Required value: name or generateName is required")
    else:
        rules = names.dns_1123_subdomain(name, unit="bytes")
        found += _invalid("metadata.name", name, rules)
    for key, value in sorted(metadata.get("labels", {}).items()):
        found += _invalid("metadata.labels", key, names.qualified_name(key))
        found += _invalid("metadata.labels", value, names.label_value(value))
    annotations: dict[str, str] = metadata.get("annotations", {})
    for key in sorted(annotations):
        found += _invalid("metadata.annotations", key, names.qualified_name(key.lower()))
    if sum(len((key + value).encode()) for key, value in annotations.items()) > _ANNOTATIONS_BYTES:
        rule = f"may not be more than {_ANNOTATIONS_BYTES} bytes"
        found.append(f"metadata.annotations: Too long: {rule}")
    for finalizer in metadata.get("finalizers", []):
        found += _invalid("metadata.finalizers", finalizer, names.qualified_name(finalizer))
    return found


def _invalid(path: str, value: str, rules: Iterable[str]) -> list[str]:
    shown = json.dumps(value, ensure_ascii=False)
    return [f"{path}: Invalid value: {shown}: {rule}" for rule in rules]
