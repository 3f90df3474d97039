"""What Prometheus and Grafana need to watch the service: monitors and a dashboard, as YAML."""

from __future__ import annotations

import json
from importlib import resources

from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarstring import LiteralScalarString

from qwenkit.manifests.render import filled
from qwenkit.manifests.template import Scalar
from qwenkit.settings import MANAGED_BY, Settings


def monitoring(settings: Settings) -> list[CommentedMap]:
    """Render a PodMonitor of the service, one of Knative's autoscaler, and a dashboard.

    They are for a person to apply: ``deploy`` does not, since only clusters with the Prometheus
    operator know the kind. The comments say what cannot be scraped through Knative.
    """
    own: dict[str, Scalar] = {
        "namespace": settings.namespace,
        "managed_by": settings.labels[MANAGED_BY],
        "run": settings.run,
    }
    board = filled("dashboard.yaml", own | {"name": f"{settings.service}-dashboard"})
    board["data"][f"{settings.service}.json"] = LiteralScalarString(_dashboard(settings))
    return [
        filled("pod-monitor.yaml", own | {"service": settings.service}),
        filled("autoscaler-monitor.yaml", own | {"name": f"{settings.service}-autoscaler"}),
        board,
    ]


def _dashboard(settings: Settings) -> str:
    folder = resources.files("qwenkit.manifests") / "templates"
    board = json.loads((folder / "dashboard.json").read_text("utf-8"))
    chosen = {"namespace": settings.namespace, "service": settings.service}
    for variable in board["templating"]["list"]:
        variable["query"] = chosen.get(variable["name"], variable["query"])
    board["title"], board["uid"] = f"{settings.service} on Knative", f"qwenkit-{settings.service}"
    return json.dumps(board, ensure_ascii=False, indent=1) + "\n"
