"""Probe containers as the kubelet does: HTTP and TCP against what really listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from qwenkit.sandbox.kube.objects import at

Listener = Callable[[int], str | None]
"""Gives the real address behind a container's port, or None when nothing listens there."""

SHORTEST_S = 0.02


@dataclass(frozen=True)
class Periods:
    """A probe's timing and thresholds, with Kubernetes' defaults."""

    initial_delay_s: float
    period_s: float
    timeout_s: float
    successes: int
    failures: int

    def paced(self, second: float) -> Periods:
        """Return the same with delay and period in the node's seconds; the timeout is real."""
        delay, period = self.initial_delay_s * second, self.period_s * second
        return replace(self, initial_delay_s=delay, period_s=max(period, SHORTEST_S))


def periods(probe: Mapping[str, Any]) -> Periods:
    """Read a probe's numbers; 0 and absent mean the default."""
    return Periods(
        initial_delay_s=probe.get("initialDelaySeconds") or 0,
        period_s=probe.get("periodSeconds") or 10,
        timeout_s=probe.get("timeoutSeconds") or 1,
        successes=probe.get("successThreshold") or 1,
        failures=probe.get("failureThreshold") or 3,
    )


def can_ask(probe: Mapping[str, Any]) -> bool:
    """Return whether a probe is one that the sandbox really makes."""
    return bool(probe.get("httpGet") or probe.get("tcpSocket"))


async def check(
    probe: Mapping[str, Any], container: Mapping[str, Any], listener: Listener, pod_ip: str
) -> str | None:
    """Probe once; return None when it passes, else the kubelet's words."""
    handler = probe.get("httpGet") or probe.get("tcpSocket")
    if handler is None:
        # Nothing is executed here, so a command neither passes nor fails: it is taken to pass.
        return None
    port = _port(handler.get("port"), container)
    url = listener(port)
    timeout_s = periods(probe).timeout_s
    refused = f"dial tcp {pod_ip}:{port}: connect: connection refused"
    if "httpGet" not in probe:
        return None if url and await _accepts(url, timeout_s) else refused
    path = handler.get("path") or "/"
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
    """Return what a queue-proxy answers to a probe: the user's probe, unless it drains."""
    if draining:
        return False
    text = next(
        (
            one.get("value", "")
            for one in queue_proxy.get("env", [])
            if one["name"] == "SERVING_READINESS_PROBE"
        ),
        "",
    )
    probe = json.loads(text) if text else {"tcpSocket": {"port": 0}}
    return await check(probe, container, listener, pod_ip) is None


def is_queue_proxy(probe: Mapping[str, Any]) -> bool:
    """Return whether a probe asks a queue-proxy rather than the container itself."""
    headers = at(probe, "httpGet", "httpHeaders") or []
    return any(one.get("name") == "K-Network-Probe" for one in headers)


def _port(port: object, container: Mapping[str, Any]) -> int:
    """Return a port's number; 0 and none are the container's first port."""
    ports = container.get("ports") or []
    for one in ports:
        if port and port == one.get("name"):
            return int(one["containerPort"])
    if isinstance(port, int) and port:
        return port
    return int(ports[0]["containerPort"]) if ports else 8080


async def _accepts(url: str, timeout_s: float) -> bool:
    parts = urlsplit(url)
    try:
        # Not wait_for: on Python 3.11 it forgets a cancellation that meets the connection's end.
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
            session.get(url, headers={"User-Agent": "kube-probe/1.36"}) as response,
        ):
            if 200 <= response.status < 400:
                return None
            return f"HTTP probe failed with statuscode: {response.status}"
    except TimeoutError:
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return shown + why
    except aiohttp.ClientError:
        return shown + refused


ProbeOnce = Callable[[], Awaitable[str | None]]


async def watch(
    numbers: Periods,
    once: ProbeOnce,
    *,
    passed: Callable[[], None],
    failed: Callable[[str], None],
    broken: Callable[[], None],
    goes_on: Callable[[], bool],
) -> None:
    """Probe while the container ``goes_on``.

    ``failed`` hears each failure, ``broken`` the one that reaches the failure threshold,
    ``passed`` the success that reaches the success threshold.
    """
    await asyncio.sleep(numbers.initial_delay_s)
    good = bad = 0
    while goes_on():
        problem = await once()
        if not goes_on():
            return
        if problem is None:
            good, bad = good + 1, 0
            if good == numbers.successes:
                passed()
        else:
            good, bad = 0, bad + 1
            failed(problem)
            if bad == numbers.failures:
                broken()
        await asyncio.sleep(numbers.period_s)
