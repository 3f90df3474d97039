"""Probes that the data plane answers itself: those of Knative's components and of kubelets.

The activator answers if it is in the path, else the queue-proxy. These requests reach no
container and do not count for the autoscaler.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

_PROBE, _HASH = "K-Network-Probe", "K-Network-Hash"
_UNEXPECTED = "unexpected probe header value: "


def refusal(status: int, words: str) -> web.Response:
    """Return an error as Go's ``http.Error`` writes it."""
    headers = {"X-Content-Type-Options": "nosniff"}
    return web.Response(status=status, text=f"{words}\n", headers=headers)


def answer(headers: Mapping[str, str], *, proxied: bool) -> web.Response | None:
    """Return the answer to a probe, None if the request is not one.

    Args:
        headers: the request's.
        proxied: whether the activator is in the path.
    """
    value, kubelet = headers.get(_PROBE, ""), _is_kubelet(headers)
    if kubelet and proxied:
        return web.Response()
    if kubelet and value != "queue":
        return refusal(400, f"{_UNEXPECTED}{value}")
    if kubelet:
        return web.Response(text="queue")
    if value == "probe":
        return _hashed(headers.get(_HASH, ""))
    if not value or not proxied:
        return None
    if value == "activator":
        return web.Response(text="activator")
    return refusal(400, f"{_UNEXPECTED}{json.dumps(value)}")


def _is_kubelet(headers: Mapping[str, str]) -> bool:
    agent = headers.get("User-Agent", "")
    return agent.startswith("kube-probe/") or bool(headers.get("K-Kubelet-Probe"))


def _hashed(value: str) -> web.Response:
    if not value:
        return refusal(400, f'a probe request must contain a non-empty "{_HASH}" header')
    return web.Response(headers={_HASH: value})
