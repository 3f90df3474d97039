"""Does a probe pass? HTTP and TCP are asked of the server that really listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from qwenkit.sandbox.controllers.knative.queue_proxy import DEFAULT_PORT
from qwenkit.sandbox.kube.objects import at

Listener = Callable[[int], str | None]
"""Returns the real address behind a container's port, or None when nothing listens there."""


def can_ask(probe: Mapping[str, Any]) -> bool:
    """Return whether the sandbox can run a probe."""
    return bool(probe.get("httpGet") or probe.get("tcpSocket"))


async def check(
    probe: Mapping[str, Any], container: Mapping[str, Any], listener: Listener, pod_ip: str
) -> str | None:
    """Probe once; return None when it passes, else the kubelet's message."""
    handler = probe.get("httpGet") or probe.get("tcpSocket")
    if handler is None:
        # Commands are not run here, so the result is unknown: it counts as passed.
        return None
    port = _port(handler.get("port"), container)
    url = listener(port)
    timeout_s = probe.get("timeoutSeconds") or 1
    refused = f"dial tcp {pod_ip}:{port}: connect: connection refused"
    if "httpGet" not in probe:
        return None if url and await _accepts(url, timeout_s) else refused
    # As the kubelet does; "@host" would otherwise be the end of an address.
    path = f"/{str(handler.get('path') or '').removeprefix('/')}"
    shown = f'Get "http://{pod_ip}:{port}{path}": '
    if url is None:
        return shown + refused
    return await _get(url + path, timeout_s, shown, refused)


async def ready(
    queue_proxy: Mapping[str, Any],
    container: Mapping[str, Any],
    listener: Listener,
    pod_ip: str,
    *,
    draining: bool,
) -> bool:
    """Return whether a queue-proxy passes a probe: the user's passes and it does not drain."""
    if draining:
        return False
    env = {one["name"]: one.get("value", "") for one in queue_proxy.get("env", [])}
    text = env.get("SERVING_READINESS_PROBE", "")
    probe = json.loads(text) if text else {"tcpSocket": {"port": 0}}
    return await check(probe, container, listener, pod_ip) is None


def is_queue_proxy(probe: Mapping[str, Any]) -> bool:
    """Return whether a probe asks a queue-proxy rather than the container itself."""
    headers = at(probe, "httpGet", "httpHeaders") or []
    return any(one.get("name") == "K-Network-Probe" for one in headers)


def _port(port: object, container: Mapping[str, Any]) -> int:
    """Return a port's number; 0 and none are the container's first port."""
    ports = container.get("ports") or []
    named = {one.get("name"): int(one["containerPort"]) for one in ports}
    if port and port in named:
        return named[port]
    if isinstance(port, int) and port:
        return port
    return int(ports[0]["containerPort"]) if ports else DEFAULT_PORT


async def _accepts(url: str, timeout_s: float) -> bool:
    parts = urlsplit(url)
    try:
        # Not wait_for: on Python 3.11 it loses a cancellation at the end of a connection.
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _get(url: str, timeout_s: float, shown: str, refused: str) -> str | None:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(
                url, headers={"User-Agent": "kube-probe/1.36"}, allow_redirects=False
            ) as response,
        ):
            if 200 <= response.status < 400:
                return None
            return f"HTTP probe failed with statuscode: {response.status}"
    except TimeoutError:
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return shown + why
    except aiohttp.ClientError:
        return shown + refused
