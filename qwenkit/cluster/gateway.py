"""Where to send requests: the Knative gateway's address and the Host that selects the Service."""

from __future__ import annotations

import base64
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from qwenkit.cluster.api_errors import may_not_look
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    ALB_CONFIG,
    CORE_SERVICE,
    KNATIVE_NAMESPACE,
    KSVC,
    NODE,
    SECRET,
    Obj,
    name_of,
)
from qwenkit.credentials import clean, from_environment
from qwenkit.errors import Forbidden, NotFound, NotReady
from qwenkit.errors.scrubbing import remember
from qwenkit.settings import API_KEY, Settings

# Each by its ingress class, with namespace and name of its Service; an ALB has none. ACK puts
# Kourier into knative-serving, upstream into kourier-system.
_GATEWAYS = (
    ("kourier", "kourier-system", "kourier"),
    ("kourier", KNATIVE_NAMESPACE, "kourier"),
    ("istio", "istio-system", "istio-ingressgateway"),
    ("contour", "contour-external", "envoy"),
    ("alb",),
)
_MOST_NODES = 6
_CONNECT_S = 1.0


@dataclass(frozen=True)
class Gateway:
    """The gateway's base URL without a trailing slash, and the ``Host`` of the Service."""

    url: str
    host: str


def find_gateway(cluster: Cluster, settings: Settings, tag: str = "") -> Gateway:
    """Return the gateway of the Service: the ``gateway`` parameter, else what the cluster has.

    With a ``tag`` the host is that of the revision which ``spec.traffic`` tags so.

    Raises:
        NotFound: no gateway address is known; the fix is a port-forward.
        NotReady: the Service has no URL yet.
    """
    service = cluster.get(KSVC, settings.service)
    host = tagged_host(service, tag) if tag else service_host(service)
    return Gateway(gateway_url(cluster, settings.gateway), host)


def service_host(service: Obj) -> str:
    """Return the host name of a Knative Service, from its ``status.url``."""
    host = urlsplit(str(service.get("status", {}).get("url") or "")).netloc
    if not host:
        name = name_of(service)
        raise NotReady(
            f"ksvc {name} has no URL yet",
            "its Route has not been reconciled",
            f"qwenkit explain {name}",
            kind="Service",
            name=name,
        )
    return host


def tagged_host(service: Obj, tag: str) -> str:
    """Return the host name of one tag of a Knative Service, from its ``status.traffic``."""
    traffic = (service.get("status") or {}).get("traffic") or []
    hosts = {each.get("tag"): urlsplit(str(each.get("url") or "")).netloc for each in traffic}
    if not hosts.get(tag):
        known = ", ".join(sorted(filter(None, hosts))) or "none"
        raise NotFound(
            f"ksvc {name_of(service)} has no tag {tag} that can be reached",
            f"tags in its status: {known}",
            "spec.traffic gives a revision a tag; notebook 07 does so",
        )
    return hosts[tag]


def gateway_url(cluster: Cluster, override: str = "") -> str:
    """Return the gateway's base URL: ``override`` if given, else what the cluster has.

    Raises:
        NotFound: no gateway address is known; the fix is a port-forward.
        Forbidden: this role may not look for it; the fix is the parameter.
    """
    return address(cluster, override)[0]


def address(cluster: Cluster, override: str = "") -> tuple[str, str]:
    """Return the gateway's base URL and whose it is, such as ``kourier``; empty for ``override``.

    Raises:
        NotFound, Forbidden: as for ``gateway_url``.
    """
    if override:
        return (override if "//" in override else f"http://{override}"), ""
    configured, hidden = ingress_class(cluster).partition(".")[0], list[Forbidden]()
    for family, *place in sorted(_GATEWAYS, key=lambda gateway: gateway[0] != configured):
        try:
            url = _service_url(cluster, *place) if place else _alb_url(cluster)
        except Forbidden as error:
            hidden.append(error)
            continue
        if url:
            return url, family
    if hidden:
        raise Forbidden(
            "the address of the Knative gateway is not known",
            may_not_look(*hidden),
            "--set gateway=URL; who may look finds it: kubectl get service -A | grep -E "
            "'kourier|istio|contour'",
        )
    raise NotFound(
        "the address of the Knative gateway was not found",
        "no gateway Service has a load balancer address or a port that this machine can reach",
        "kubectl port-forward -n kourier-system svc/kourier 8080:80, then "
        "--set gateway=http://127.0.0.1:8080",
        kind="Service",
        name="kourier",
    )


def api_key(cluster: Cluster, settings: Settings) -> str:
    """Return the server's API key, hidden from now on: ``OPENAI_API_KEY``, else the Secret's.

    Raises:
        NotFound: there is no such Secret, or it has no such key.
        Forbidden: it may not be read.
        SettingsError: it holds a character that no key has; its value is not shown.
    """
    given, name = from_environment("OPENAI_API_KEY"), settings.api_key_secret
    if given or not name:
        return given
    make = f"kubectl -n {cluster.namespace} create secret generic {name} --from-literal={API_KEY}=…"
    try:
        found = cluster.find(SECRET, name)
    except Forbidden as error:
        why = f"the server's key is in it, and this role may not read it: {error.why}"
        fix = "export OPENAI_API_KEY=… instead, or ask for a role that may read this Secret"
        raise Forbidden(f"secret {name} cannot be read", why, fix) from None
    data = (found or {}).get("data") or {}
    if not data.get(API_KEY):
        why = f"it has no key {API_KEY}" if found else f"namespace {cluster.namespace} has none"
        raise NotFound(f"secret {name} gives no API key", why, make, kind="Secret", name=name)
    try:
        value = base64.b64decode(str(data[API_KEY])).decode().strip()
    except ValueError:
        raise NotFound(f"secret {name} gives no API key", "it is not text", make) from None
    remember(value)
    return clean(f"secret {name}", value)


def ingress_class(cluster: Cluster) -> str:
    """Return the configured ingress class, empty if it cannot be read."""
    try:
        return class_in(cluster.knative_config("network"))
    except Forbidden:
        return ""


def class_in(network: Mapping[str, str]) -> str:
    """Return the ingress class that Knative's ``config-network`` sets, by either of its keys."""
    return network.get("ingress-class") or network.get("ingress.class") or ""


def _service_url(cluster: Cluster, namespace: str, name: str) -> str:
    service = cluster.find(CORE_SERVICE, name, namespace=namespace)
    return (_load_balancer_url(service) or _node_url(cluster, service)) if service else ""


def _load_balancer_url(service: Obj) -> str:
    """Return the load balancer's base URL, empty if it has none; port 80 is left out."""
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    where = next((i.get("ip") or i.get("hostname") for i in ingress), None)
    port = _http_port(service)
    return _url(str(where), int(port["port"])) if where and port else ""


def _http_port(service: Obj) -> Obj | None:
    """Return the port for plain HTTP: the one named ``http2`` or ``http``, else number 80."""
    ports = service.get("spec", {}).get("ports") or []
    named = [p for name in ("http2", "http") for p in ports if p.get("name") == name]
    return next(iter(named + [p for p in ports if p.get("port") == 80]), None)


def _node_url(cluster: Cluster, service: Obj) -> str:
    """Return a node's port, or the Service's own address if this machine can reach it.

    Not every node can be reached or runs a pod of the gateway: the first that answers wins.
    """
    port = _http_port(service) or {}
    nodes = [(node, int(port.get("nodePort") or 0)) for node in _node_addresses(cluster)]
    places = [place for place in nodes if place[1]][:_MOST_NODES]
    own = str(service.get("spec", {}).get("clusterIP") or "None")
    inside = [(own, int(port["port"]))] if port and own != "None" else []
    found = places if len(places) == 1 and not inside else filter(_answers, places + inside)
    place = next(iter(found), next(iter(places), None))
    return _url(*place) if place else ""


def _node_addresses(cluster: Cluster) -> list[str]:
    try:
        nodes = cluster.list(NODE)
    except Forbidden:
        return []
    addresses = [a for node in nodes for a in node.get("status", {}).get("addresses") or []]
    # ExternalIP sorts before InternalIP, and is the one that can be reached from outside.
    usable = [(a["type"], a["address"]) for a in addresses if a["type"].endswith("ternalIP")]
    return [address for _, address in sorted(usable)]


def _answers(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True


def _alb_url(cluster: Cluster) -> str:
    statuses = [config.get("status", {}) for config in cluster.list(ALB_CONFIG)]
    names = [status.get("loadBalancer", {}).get("dnsname") for status in statuses]
    return next((f"http://{name}" for name in names if name), "")


def _url(where: str, port: int) -> str:
    where = f"[{where}]" if ":" in where else where
    return f"http://{where}" if port == 80 else f"http://{where}:{port}"
