"""``pods/proxy`` and ``services/proxy``: a GET that the API server passes on to a port."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from aiohttp import web
from yarl import URL

from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.objects import Object, at

Dial = Callable[[Object, str], str | None]
"""Returns the URL on this machine of a pod's or a Service's port, None if nothing listens."""
_LIMIT = aiohttp.ClientTimeout(total=30)


async def passed_on(request: web.Request, obj: Object, port: str, dial: Dial) -> web.Response:
    """Answer ``GET …/NAME:PORT/proxy/PATH`` with what the port answers; default: a pod's first.

    Raises:
        ApiError: 400, a pod without an address; 503, nothing listens, or it does not answer.
    """
    address, name = at(obj, "status", "podIP"), obj["metadata"]["name"]
    is_pod = "containers" in obj["spec"]
    if is_pod and not address:
        raise bad_request("address not allowed")
    ports = [p for one in obj["spec"].get("containers", ()) for p in one.get("ports") or ()]
    port = port or str(ports[0]["containerPort"] if ports else 80)
    url = dial(obj, port)
    if url is None and not is_pod:
        raise _unavailable(f'no endpoints available for service "{name}"')
    if url is None:
        raise _unreachable(f"dial tcp {address}:{port}: connect: connection refused")
    # After /api/v1/namespaces/NAMESPACE/pods/NAME:PORT/proxy/, as it was sent.
    path = "/".join(request.raw_path.split("/", 8)[8:])
    try:
        async with (
            aiohttp.ClientSession(timeout=_LIMIT) as session,
            session.get(URL(f"{url}/{path}", encoded=True), allow_redirects=False) as answer,
        ):
            kind = {"Content-Type": answer.headers.get("Content-Type", "text/plain")}
            return web.Response(body=await answer.read(), status=answer.status, headers=kind)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _unreachable(f"{name}:{port}: {type(error).__name__}") from None


def _unreachable(why: str) -> ApiError:
    return _unavailable(f"error trying to reach service: {why}")


def _unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message)
