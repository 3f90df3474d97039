"""The autoscaler's ``/metrics``: its last decisions, by the names of Knative since 1.19."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from qwenkit.autoscaling.annotations import RPS
from qwenkit.sandbox.controllers.knative.autoscaler import Autoscaler

PORT = 9090


def app(autoscaler: Autoscaler) -> web.Application:
    """Return what listens on the Service ``autoscaler`` of Knative."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="".join(_lines(autoscaler)))

    served = web.Application()
    served.router.add_get("/metrics", metrics)
    return served


def _lines(autoscaler: Autoscaler) -> Iterator[str]:
    for (namespace, revision), last in autoscaler.last.items():
        labels = f'{{k8s_namespace_name="{namespace}",kn_revision_name="{revision}"}}'
        load = "rps" if last.spec.metric == RPS else "concurrency"
        yield f"kn_revision_pods_desired{labels} {last.desired}\n"
        yield f"kn_revision_panic_mode{labels} {last.panicking:d}\n"
        yield f"kn_revision_{load}_stable{labels} {last.stable:g}\n"
        yield f"kn_revision_{load}_panic{labels} {last.panic:g}\n"
