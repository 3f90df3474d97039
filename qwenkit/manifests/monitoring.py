"""What Prometheus and Grafana need to watch the service: monitors and a dashboard, as YAML."""

from __future__ import annotations

import json

from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarstring import LiteralScalarString

from qwenkit.manifests.storage import filled
from qwenkit.manifests.template import Scalar, plain
from qwenkit.settings import MANAGED_BY, Settings


def monitoring(settings: Settings) -> list[CommentedMap]:
    """Render a PodMonitor of the service, one of Knative's autoscaler, and a dashboard.

    They are for a person to apply: only clusters with the Prometheus operator know the kind.
    """
    labels = {"managed_by": settings.labels[MANAGED_BY], "run": settings.run}
    own: dict[str, Scalar] = {"namespace": settings.namespace, **labels}
    names: dict[str, Scalar] = {"service": settings.service, "namespace": settings.namespace}
    panels = json.dumps(plain(filled("dashboard.json", names)), ensure_ascii=False, indent=1)
    board = filled("dashboard.yaml", own | {"name": f"{settings.service}-dashboard"})
    board["data"][f"{settings.service}.json"] = LiteralScalarString(panels + "\n")
    return [
        filled("pod-monitor.yaml", own | {"service": settings.service}),
        filled("autoscaler-monitor.yaml", own | {"name": f"{settings.service}-autoscaler"}),
        board,
    ]
