"""What doctor says of rights, of what it may not see, and of the way to the model."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from cluster_api import KSVC, OURS, Api, obj, serving, status
from good_cluster import KEYS, Obj, check_of, config, cpu_node, good_cluster, gpu_node

from qwenkit.cluster.client import Cluster


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return good_cluster()


def refuse(api: Api, *resources: str) -> None:
    """Let the role read none of these, as RBAC says it."""

    def answer(_method: str, path: str, _body: Any) -> tuple[int, Obj] | None:
        for one in resources:
            if f"/{one}" in path:
                why = f'User "me" cannot get resource "{one}" in API group "" at the cluster scope'
                return status(403, "Forbidden", f"{one} is forbidden: {why}")
        return None

    api.refuse = answer


def test_what_the_role_may_not_do_fails_or_says_what_is_lost(cluster: Cluster, api: Api) -> None:
    refused = {("patch", "secrets"), ("list", "events"), ("create", "persistentvolumes")}
    api.may = lambda asked: (
        asked["verb"] != "*" and (asked["verb"], asked["resource"]) not in refused
    )
    deploy = check_of("rights-deploy")
    assert (deploy.verdict, "patch secrets; create persistentvolumes" in deploy.why) == (
        "fail",
        True,
    )
    assert "at cluster scope" in deploy.why
    assert "render --admin --user NAME" in deploy.fix
    explain = check_of("rights-explain")
    assert (explain.verdict, "list events" in explain.why) == ("warn", True)
    assert check_of("rights-scale").verdict == "ok"
    refused.remove(("patch", "secrets"))
    assert check_of("rights-deploy").fix.endswith("qwenkit render --admin | kubectl apply -f -")
    api.add(obj("v1/PersistentVolume", "llm-model", labels=OURS, spec={}))
    assert check_of("rights-deploy").verdict == "ok", "it is there"
    asked = {tuple(body["spec"]["resourceAttributes"].items()) for *_, body in api.requests if body}
    everywhere = {dict(one)["resource"] for one in asked if not dict(one).get("namespace")}
    assert {"nodes", "persistentvolumes", "csidrivers"} < everywhere
    assert "secrets" not in everywhere


def test_other_pods_that_may_not_be_seen_leave_free_capacity_unknown(
    cluster: Cluster, api: Api
) -> None:
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "pods is forbidden") if path == "/api/v1/pods" else None
    )
    for name in ("scale", "fit", "rollout"):
        found = check_of(name)
        assert (found.verdict, "large enough" in found.why) == ("unknown", True)
    api.add(cpu_node())
    api.objects["v1/Node", "", "gpu-1"]["status"]["allocatable"] |= {"cpu": "4"}
    assert check_of("rollout").verdict == "warn", "not even empty nodes hold it"


def test_a_change_needs_room_beside_all_replicas(cluster: Cluster, api: Api) -> None:
    assert check_of("rollout").verdict == "ok"
    assert check_of("rollout", initial_scale=2).verdict == "warn"
    assert check_of("rollout", max_scale=0).verdict == "not applicable"
    spare = gpu_node("gpu-2", gpus=1)
    api.add(spare)
    assert check_of("rollout", initial_scale=2).verdict == "ok"
    spare["spec"] = {"unschedulable": True}
    assert check_of("rollout", initial_scale=2).verdict == "warn"


@pytest.mark.parametrize(
    ("seconds", "storage", "verdict", "text"),
    [(10, "oss", "ok", ""), (300, "oss", "warn", "s ahead of"), (-1200, "oss", "fail", "OSS")],
)
def test_a_clock_that_is_off_is_named_with_what_it_breaks(
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    storage: str,
    verdict: str,
    text: str,
) -> None:
    there = time.time() - seconds
    monkeypatch.setattr(Cluster, "date", lambda _self: formatdate(there, usegmt=True))
    found = check_of("clock", storage=storage)
    assert (found.verdict, text in found.found + found.why) == (verdict, True)


@pytest.mark.parametrize(
    ("network", "gateway", "verdict"),
    [
        ({"http-protocol": "Redirected"}, "", "fail"),
        ({"httpProtocol": "disabled"}, "", "fail"),
        ({"http-protocol": "Redirected"}, "https://models.example.com", "ok"),
        ({"http-protocol": "Enabled"}, "", "ok"),
    ],
)
def test_a_gateway_that_redirects_to_https_is_found(
    cluster: Cluster, api: Api, network: dict[str, str], gateway: str, verdict: str
) -> None:
    api.add(config("network", **network))
    found = check_of("redirect", gateway=gateway)
    assert found.verdict == verdict
    assert verdict == "ok" or "http-protocol" in found.why


def test_a_redirect_is_seen_whatever_may_be_read(cluster: Cluster, api: Api) -> None:
    api.add(obj(KSVC, "qwen", labels=OURS, spec={}, status={"url": "http://qwen.example.com"}))
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.headers["K-Network-Probe"])
        raise web.HTTPMovedPermanently(f"https://{request.host}/")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", redirect)
    with serving(app) as url:
        found = check_of("redirect", gateway=url)
    assert (found.verdict, "https://qwen.example.com" in found.why) == ("fail", True)
    assert asked == ["probe"], "no pod is woken"
    assert "nothing answers" in check_of("redirect", gateway=url).why
    del api.objects[KSVC, "default", "qwen"]
    refuse(api, "configmaps")
    assert check_of("redirect", gateway=url).verdict == "unknown"


@pytest.mark.parametrize(
    ("gateway", "more", "verdict", "text"),
    [
        ("http://47.1.2.3", {}, "warn", "/metrics"),
        ("http://47.1.2.3", {"api_key_secret": "key"}, "ok", "open without it: /metrics"),
        ("http://47.1.2.3", {"extra_args": "--api-key x"}, "ok", "guards /v1"),
        ("http://10.1.2.3", {}, "ok", "private"),
        ("http://no-such-host.invalid", {}, "unknown", "no address"),
    ],
)
def test_a_public_gateway_without_a_key_is_open_to_all(
    cluster: Cluster, gateway: str, more: dict[str, Any], verdict: str, text: str
) -> None:
    found = check_of("exposure", gateway=gateway, **more)
    assert (found.verdict, text in str(found)) == (verdict, True)


def test_pulls_tell_whether_the_registry_is_reached(cluster: Cluster, api: Api) -> None:
    def event(name: str, at: str, message: str) -> None:
        api.add(obj("v1/Event", name, message=message, lastTimestamp=f"2026-01-01T00:{at}:00Z"))

    assert check_of("image").verdict == "ok", "a node has it"
    api.objects["v1/Node", "", "gpu-1"]["status"]["images"] = [{"names": ["docker.io/qwen:1"]}]
    found = check_of("image", image="registry.example.com/team/vllm:1")
    assert (found.verdict, "registry.example.com" in found.why) == ("unknown", True)
    assert "docker.io" in check_of("image", image="vllm/vllm:1").why
    event("a", "01", 'Failed to pull image "docker.io/vllm/vllm@sha256:01": not found')
    found = check_of("image", image="vllm/vllm:1")
    assert (found.verdict, "not found" in found.why) == ("warn", True)
    event("b", "02", 'Successfully pulled image "docker.io/vllm/vllm@sha256:01" in 2s')
    assert check_of("image", image="vllm/vllm:1").verdict == "ok"
    refuse(api, "nodes", "events")
    assert "may not look: the role needs get nodes" in check_of("image").why


def test_an_address_that_may_not_be_looked_for_is_not_said_to_be_missing(
    cluster: Cluster, api: Api
) -> None:
    refuse(api, "services")
    found = check_of("gateway")
    assert (found.verdict, "get services at cluster scope" in found.why) == ("unknown", True)
    assert "--set gateway=URL" in found.fix
    assert check_of("gateway", gateway="http://10.0.0.9").verdict == "ok"


def test_whose_a_volume_is_is_told(cluster: Cluster, api: Api) -> None:
    admins = {"app.kubernetes.io/managed-by": "qwenkit-admin"}
    reserved = {"claimRef": {"namespace": "default", "name": "llm-model"}}
    api.add(obj("v1/PersistentVolume", "llm-model", spec=reserved))
    assert check_of("names").found == "an administrator's: pv llm-model"
    refuse(api, "persistentvolumes")
    found = check_of("names")
    assert (found.verdict, "render --admin" in found.fix) == ("unknown", True)
    bound = {"phase": "Bound"}
    api.add(obj("v1/PersistentVolumeClaim", "llm-model", labels=admins, spec={}, status=bound))
    refuse(api, "persistentvolumes")
    assert check_of("names").found == "an administrator's: pvc llm-model, pv llm-model"
