"""How a revision scales: its annotations, and what they and a cluster's defaults give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec


@dataclass(frozen=True)
class LiveScaling:
    """How a revision scales: its annotations, and what they and the cluster's defaults give.

    ``config`` is the data of the cluster's ``config-autoscaler``, empty if it may not be read.
    """

    revision: str
    annotations: Mapping[str, str]
    spec: ScalingSpec
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    service: str = ""

    @classmethod
    def of(cls, annotations: Mapping[str, str], revision: str = "qwen-00001") -> LiveScaling:
        """Return how a revision with these annotations would scale, with Knative's defaults.

        Raises:
            InvalidValue: the webhook would refuse an annotation.

        >>> LiveScaling.of({"autoscaling.knative.dev/target": "2"}).spec.target
        1.4
        """
        return cls(revision, annotations, parse_spec(annotations))
