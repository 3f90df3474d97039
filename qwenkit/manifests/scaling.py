"""The scaling annotations of the settings, and the spec that the autoscaler derives from them."""

from __future__ import annotations

from collections.abc import Mapping

from qwenkit.autoscaling.annotation_keys import ALIASES, PREFIX, PROGRESS_DEADLINE
from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.settings import Settings

# Annotations whose setting has another name; the others differ only in "_" and "-".
_RENAMED = {"metric": "scale_metric", "target": "scale_target", "window": "stable_window"}
_NAMED_ALIKE = ("activation-scale", *ALIASES)
SETTING_OF: Mapping[str, str] = {
    **{PREFIX + key: setting for key, setting in _RENAMED.items()},
    **{PREFIX + key: key.replace("-", "_") for key in _NAMED_ALIKE},
    PROGRESS_DEADLINE: "progress_deadline",
}
"""The setting behind each annotation, by the annotation's full key."""


def scaling_annotations(settings: Settings) -> dict[str, str]:
    """Return the revision's annotations; settings of None leave theirs to the cluster."""
    values = {key: getattr(settings, name) for key, name in SETTING_OF.items()}
    return {key: annotation_text(value) for key, value in values.items() if value is not None}


def scaling_spec(settings: Settings) -> ScalingSpec:
    """Return the spec that the autoscaler derives from the settings.

    Raises:
        InvalidValue: an annotation that Knative refuses, or one that contradicts another.
    """
    annotations = scaling_annotations(settings)
    return parse_spec(annotations, container_concurrency=settings.container_concurrency)


def annotation_text(value: str | float) -> str:
    """Write a value as Go and Python both read it: ``2.0`` becomes ``2``."""
    if isinstance(value, str):
        return value
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
