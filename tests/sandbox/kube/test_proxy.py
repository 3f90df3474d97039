"""A GET of a pod's or a Service's port goes through the API server, as on a real cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiohttp import web
from cluster_api import serving
from kube_cluster import Cluster, running

PODS, SERVICES = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/services"


@pytest.fixture(scope="module")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    async def answer(request: web.Request) -> web.Response:
        status = 404 if request.path == "/gone" else 200
        return web.Response(text=f"{request.method} {request.raw_path}", status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    with running(tmp_path_factory.mktemp("kube")) as kube, serving(app) as url:
        kube.ports["8080"] = url
        containers = [{"name": "c", "image": "i", "ports": [{"containerPort": 8080}]}]
        for name in ("one", "new"):
            kube.on_loop(
                lambda store, name=name: store.create(
                    "Pod",
                    {
                        "metadata": {"name": name, "namespace": "default"},
                        "spec": {"containers": containers},
                    },
                )
            )
        kube.on_loop(
            lambda store: store.update_status(
                "Pod", store.get("Pod", "default", "one") | {"status": {"podIP": "10.0.0.7"}}
            )
        )
        ports = [{"name": "http", "port": 8080}, {"name": "other", "port": 81}]
        kube.on_loop(
            lambda store: store.create(
                "Service",
                {"metadata": {"name": "s", "namespace": "default"}, "spec": {"ports": ports}},
            )
        )
        yield kube


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        (f"{PODS}/one:8080/proxy/metrics?a=b%2Fc", 200, "GET /metrics?a=b%2Fc"),
        (f"{PODS}/http:one:8080/proxy/a%2Fb/proxy/", 200, "GET /a%2Fb/proxy/"),
        (f"{PODS}/one/proxy", 200, "GET /"),  # the first port that the pod names
        (f"{PODS}/one:8080/proxy/gone", 404, "GET /gone"),
        (f"{SERVICES}/s:8080/proxy/x", 200, "GET /x"),
    ],
)
def test_the_answer_is_passed_on(kube: Cluster, path: str, status: int, text: str) -> None:
    answer = kube.http("GET", path)
    assert (answer.status_code, answer.text) == (status, text)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        (
            "GET",
            f"{PODS}/one:81/proxy/",
            503,
            "error trying to reach service: dial tcp 10.0.0.7:81: connect: connection refused",
        ),
        ("GET", f"{PODS}/new:8080/proxy/", 400, "address not allowed"),
        ("GET", f"{PODS}/two:8080/proxy/", 404, 'pods "two" not found'),
        ("GET", f"{SERVICES}/s:81/proxy/", 503, 'no endpoints available for service "s"'),
        (
            "POST",
            f"{PODS}/one:8080/proxy/v1/models",
            405,
            "the server does not allow this method on the requested resource",
        ),
    ],
)
def test_what_cannot_be_reached_is_refused(
    kube: Cluster, method: str, path: str, status: int, message: str
) -> None:
    answer = kube.http(method, path)
    assert (answer.status_code, answer.json()["message"]) == (status, message)


def test_a_port_that_closed_is_unavailable(kube: Cluster) -> None:
    kube.ports["82"] = "http://127.0.0.1:1"
    answer = kube.http("GET", f"{PODS}/one:82/proxy/")
    assert answer.status_code == 503
    assert answer.json()["reason"] == "ServiceUnavailable"


def test_kubectl_reads_it(kube: Cluster) -> None:
    assert kube.said("get", "--raw", f"{PODS}/one:8080/proxy/metrics") == "GET /metrics"
