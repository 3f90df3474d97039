"""How requests reach the model, and nodes its image: redirect, key, clock and registry."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from urllib.parse import urlsplit

from qwenkit.cluster.api_errors import may_not_look
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import EVENT, KSVC, Obj
from qwenkit.cluster.preflight.check import Check, fail, ok, unknown, warn
from qwenkit.errors import Forbidden
from qwenkit.settings import API_KEY, Settings

_SKEW_S, _OSS_SKEW_S = 60, 900  # OSS refuses a signature that is 15 min off
# What vLLM's key guards is in its guide on security; its other paths answer anybody.
_OPEN = "/metrics, /health, /tokenize and, in newer images, /invocations and /pause"
_ASK_S = 3.0


def clock(cluster: Cluster, settings: Settings) -> Check:
    """Compare this machine's clock with the API server's, whose answers carry their time."""
    began, text = time.time(), cluster.date()
    try:
        there = parsedate_to_datetime(text).timestamp() + 0.5  # whole seconds, cut off
    except ValueError:
        return unknown("clock", "the API server's answers carry no time")
    ahead = (began + time.time()) / 2 - there
    found = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the API server's"
    fix = "set this machine's clock: timedatectl set-ntp true"
    if abs(ahead) < _SKEW_S:
        return ok("clock", "agrees with the API server's")
    if abs(ahead) < _OSS_SKEW_S or settings.storage != "oss":
        why = "ages and times of expiry are wrong by that, and tokens may be refused"
        return warn("clock", found, why, fix)
    why = "OSS refuses signatures that are 15 minutes off: nothing can be uploaded or checked"
    return fail("clock", found, why, fix)


def redirect(cluster: Cluster, settings: Settings, url: str) -> Check:
    """Check that the gateway answers plain HTTP, if that is what its address says."""
    if url.startswith("https:"):
        return ok("redirect", "none needed: requests are sent by https")
    why = hidden = ""
    try:
        config = cluster.knative_config("network")
        protocol = (config.get("http-protocol") or config.get("httpProtocol") or "").lower()
        if protocol in ("redirected", "disabled"):
            why = f"config-network says http-protocol: {protocol.title()}"
    except Forbidden as error:
        hidden = may_not_look(error)
    service = cluster.find(KSVC, settings.service) or {}
    host = urlsplit(str((service.get("status") or {}).get("url") or "")).netloc
    status, location = _answer(url, host) if host else (0, "")
    if host and not status:
        return unknown("redirect", f"nothing answers at {url} now")
    if location.startswith("https:"):
        why = f"{url} answers {status} with Location: {location}"
    if why:
        fix = "--set gateway=https://… (gateway_ca: its CA), or http-protocol: Enabled in the "
        fix += "ConfigMap knative-serving/config-network"
        return fail("redirect", "http is redirected to https, or refused", why, fix)
    if status or not hidden:
        return ok("redirect", "plain http is answered")
    return unknown("redirect", hidden, "once the Service is there, it is asked")


def _answer(url: str, host: str) -> tuple[int, str]:
    """Return the status and the redirect of a GET, 0 if nothing answers soon.

    As a probe of Knative's own it reaches no container, and wakes none.
    """
    at = urlsplit(url)
    with (
        suppress(OSError, HTTPException),
        closing(HTTPConnection(at.hostname or "", at.port or 80, timeout=_ASK_S)) as connection,
    ):
        connection.request("GET", "/", headers={"Host": host, "K-Network-Probe": "probe"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location") or ""
    return 0, ""


def exposure(settings: Settings, url: str) -> Check:
    """Say whom the gateway lets in: vLLM asks nobody for a key unless it is given one."""
    host = urlsplit(url).hostname or ""
    with_key = settings.api_key_secret or any(
        name in f"{settings.extra_args} {settings.command} {settings.env}"
        for name in ("--api-key", "VLLM_API_KEY")
    )
    public = _is_public(host)
    if public is None:
        return unknown("exposure", f"{host} has no address here")
    guard = f"the key guards /v1; open without it: {_OPEN}" if with_key else "no key"
    if with_key or not public:
        return ok("exposure", f"{host} is {'public' if public else 'private'}; {guard}")
    why = f"whoever reaches {url} may use the model"
    fix = f"--set api_key_secret=NAME (a Secret with {API_KEY}); open even then: {_OPEN}: an "
    fix += "access list or a proxy before the gateway closes them"
    return warn("exposure", f"{host} is public, no key", why, fix)


def _is_public(host: str) -> bool | None:
    """Return whether an address of a host is reachable from anywhere, None for an unknown host."""
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except OSError:
        return None
    return any(ip_address(str(one[4][0]).partition("%")[0]).is_global for one in found)


def image(cluster: Cluster, settings: Settings, nodes: Sequence[Obj], hidden: str) -> Check:
    """Say whether nodes have pulled from the image's repository, or failed to.

    Nothing else shows that they reach its registry. Knative asks for a digest in place of the tag.
    """
    name = re.escape(_repository(settings.image))
    of_image = re.compile(rf'image "(\S+/)?{name}[:@"]')
    pulls: list[tuple[str, str]] = []
    with suppress(Forbidden):
        for event in cluster.list(EVENT):
            message = " ".join(str(event.get("message")).split())
            if of_image.search(message):
                at = event.get("lastTimestamp") or event["metadata"].get("creationTimestamp")
                pulls.append((str(at), message))
    last = max(pulls, default=("", ""))[1]
    if "Failed to pull" in last:
        fix = "is its name right, does the registry let the nodes in (image_pull_secret), and do "
        return warn("image", settings.image, last, f"{fix}they reach it?")
    have = [node for node in nodes if any(re.fullmatch(rf"(\S+/)?{name}", r) for r in _held(node))]
    if have or "pulled" in last or "already present" in last:
        return ok("image", f"{settings.image}: pulled before from its repository")
    registry = settings.image.partition("/")[0]
    registry = registry if "." in registry or ":" in registry else "docker.io"
    why = f"no node shows an image of its repository: the first pull shows if {registry} is reached"
    return unknown("image", f"{hidden}; {why}" if hidden else why)


def _repository(name: str) -> str:
    """Return the name of an image without tag and digest."""
    folder, _, last = name.partition("@")[0].rpartition("/")
    return "/".join(filter(None, (folder, last.partition(":")[0])))


def _held(node: Obj) -> set[str]:
    listed = (node.get("status") or {}).get("images") or []
    return {_repository(name) for one in listed for name in one.get("names") or []}
