"""The autoscaler's ``/metrics``: its last decisions, under the names of Knative since 1.19."""

from __future__ import annotations

from aiohttp import web

from qwenkit.autoscaling.annotations import RPS
from qwenkit.sandbox.controllers.knative.autoscaler import Autoscaler

PORT = 9090


def app(autoscaler: Autoscaler) -> web.Application:
    """Return what listens on the Service ``autoscaler`` of Knative."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=exposition(autoscaler))

    served = web.Application()
    served.router.add_get("/metrics", metrics)
    return served


def exposition(autoscaler: Autoscaler) -> str:
    """Return the gauges of every revision that had a decision, in Prometheus' text format."""
    lines = []
    for (namespace, revision), last in autoscaler.decisions():
        labels = f'{{k8s_namespace_name="{namespace}",kn_revision_name="{revision}"}}'
        load = "rps" if last.spec.metric == RPS else "concurrency"
        values = {
            "pods_desired": last.desired,
            "capacity_excess": last.excess_burst_capacity,
            "panic_mode": int(last.panicking),
            f"{load}_stable": last.stable,
            f"{load}_panic": last.panic,
            f"{load}_target": last.spec.target,
        }
        lines += [f"kn_revision_{name}{labels} {value:g}\n" for name, value in values.items()]
    return "".join(lines)
