"""One HTTP request as it is: as a curl command, or sent with whatever the answer says."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from qwenkit.inference import failures
from qwenkit.inference.address import base_url
from qwenkit.loopback import is_loopback

CHAT = "/v1/chat/completions"
CONNECT_S = 10.0


@dataclass(frozen=True)
class RawAnswer:
    """A status and a body, whatever they say."""

    status: int
    body: str


def curl_command(gateway: str, host: str, body: dict[str, Any]) -> str:
    """Return a curl command that can be pasted into a shell, as the documentation writes it."""
    data = json.dumps(body, ensure_ascii=False)
    words = [
        "curl",
        *("-H", f"Host: {host}"),
        *("-H", "Content-Type: application/json"),
        base_url(gateway) + CHAT,
        *("-d", data),
    ]
    # Shells with a proxy variable set would send a loopback request to the proxy.
    local = ["--noproxy", "*"] if is_loopback(base_url(gateway)) else []
    return " ".join(map(shlex.quote, [*words[:1], *local, *words[1:]]))


def raw_request(
    gateway: str,
    path: str,
    *,
    host: str | None = None,
    body: dict[str, Any] | None = None,
    timeout_s: float = 30,
) -> RawAnswer:
    """Send one request as it is and return status and body, whatever they say.

    Raises:
        Unreachable: nobody listens.
        WaitTimeout: no answer in time.
    """
    import requests

    url = base_url(gateway)
    with requests.Session() as session:
        session.trust_env = not is_loopback(url)
        try:
            answer = session.request(
                "GET" if body is None else "POST",
                url + path,
                json=body,
                headers={"Host": host} if host else {},
                timeout=(min(CONNECT_S, timeout_s), timeout_s),
            )
        except requests.Timeout:
            raise failures.timed_out(url, timeout_s) from None
        except requests.RequestException as error:
            raise failures.unreachable(url, failures.root(error)) from None
    return RawAnswer(answer.status_code, answer.text)


def message_of(body: str) -> str:
    """Return the message in an error's body: vLLM's JSON, OpenAI's, or short text."""
    try:
        loaded = json.loads(body)
    except ValueError:
        return body.strip()[:200]
    if isinstance(loaded, dict):
        inner = loaded.get("error")
        source = inner if isinstance(inner, dict) else loaded
        return str(source.get("message") or source.get("detail") or inner or "")
    return ""
