"""``pods/proxy`` and ``services/proxy``: a GET that the API server passes on to a port.

Names and refusals are those of ``pkg/registry/core/pod`` and ``service`` in Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from aiohttp import web
from yarl import URL

from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.objects import Object, at

Dial = Callable[[Object, str], str | None]
"""Returns the URL on this machine of an object's port, None if nothing listens there."""
_LIMIT_S = 30.0
_KEPT = ("Content-Type", "Content-Encoding")


def named(target: str) -> tuple[str, str]:
    """Return name and port of ``NAME``, ``NAME:PORT`` or ``http:NAME:PORT``; the port may be "".

    Raises:
        ApiError: 400, another form; TLS to pods is not part of the sandbox.
    """
    parts = target.split(":")
    scheme, name, port = parts if len(parts) == 3 else ("", *parts, *[""])[:3]
    if len(parts) > 3 or not name or scheme not in ("", "http"):
        raise bad_request(f'invalid pod or service request "{target}"')
    return name, port


async def passed_on(request: web.Request, obj: Object, port: str, dial: Dial) -> web.Response:
    """Answer ``GET …/proxy/PATH`` with what the object's port answers.

    Raises:
        ApiError: 400, a pod without an address; 503, nothing listens, or it does not answer.
    """
    is_pod = "containers" in obj["spec"]
    place = _pod(obj, port) if is_pod else _service(obj, port)
    url = dial(obj, place.rpartition(":")[2])
    if url is None and not is_pod:
        name = obj["metadata"]["name"]
        raise _unavailable(f'no endpoints available for service "{name}"')
    if url is None:
        raise _unreachable(f"dial tcp {place}: connect: connection refused")
    # /api/v1/namespaces/NAMESPACE/pods/NAME:PORT/proxy/PATH, as it was sent
    path = "/".join(request.raw_path.split("/", 8)[8:])
    try:
        timeout = aiohttp.ClientTimeout(total=_LIMIT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.get(URL(f"{url}/{path}", encoded=True), allow_redirects=False) as answer,
        ):
            headers = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
            return web.Response(body=await answer.read(), status=answer.status, headers=headers)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _unreachable(f"{place}: {type(error).__name__}") from None


def _pod(obj: Object, port: str) -> str:
    address = at(obj, "status", "podIP")
    if not address:
        raise bad_request("address not allowed")
    named = [p for one in obj["spec"]["containers"] for p in one.get("ports") or []]
    return f"{address}:{port or (named[0]['containerPort'] if named else 80)}"


def _service(obj: Object, port: str) -> str:
    name = obj["metadata"]["name"]
    for one in at(obj, "spec", "ports") or []:
        if port in ("", str(one["port"]), one.get("name")):
            return f"{name}:{one['port']}"
    raise _unavailable(f'no service port "{port}" found for service "{name}"')


def _unreachable(why: str) -> ApiError:
    return _unavailable(f"error trying to reach service: {why}")


def _unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message)
