"""The annotations that Knative's autoscaler reads, in all their spellings.

Source: Knative Serving ``pkg/apis/autoscaling/register.go``, restated.
"""

from __future__ import annotations

from collections.abc import Mapping

GROUP = "autoscaling.knative.dev"
PREFIX = f"{GROUP}/"
SERVING = "serving.knative.dev"
PROGRESS_DEADLINE = f"{SERVING}/progress-deadline"
KPA, HPA = f"kpa.{GROUP}", f"hpa.{GROUP}"

# Keys that have an old camelCase spelling too; the others have one spelling only.
_ALIASED = (
    "initial-scale",
    "max-scale",
    "metric-aggregation-algorithm",
    "min-scale",
    "panic-threshold-percentage",
    "panic-window-percentage",
    "scale-down-delay",
    "scale-to-zero-pod-retention-period",
    "target-burst-capacity",
    "target-utilization-percentage",
)
_SINGLE = ("activation-scale", "class", "metric", "target", "window")


def _camel(key: str) -> str:
    head, *rest = key.split("-")
    return head + "".join(word.capitalize() for word in rest)


ALIASES: Mapping[str, str] = {key: _camel(key) for key in _ALIASED}
KEYS: frozenset[str] = frozenset((*_ALIASED, *_SINGLE, *ALIASES.values()))


def find_annotation(annotations: Mapping[str, str], key: str) -> tuple[str, str] | None:
    """Return (full key, value) of an autoscaling annotation; the kebab-case spelling wins."""
    for name in (key, ALIASES.get(key, key)):
        full = PREFIX + name
        if full in annotations:
            return full, annotations[full]
    return None
