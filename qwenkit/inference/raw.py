"""Plain HTTP requests to the gateway: as a curl command, or by ``get``."""

from __future__ import annotations

import json
import shlex
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import certifi

from qwenkit.credentials import from_environment
from qwenkit.errors import InvalidValue
from qwenkit.inference import failures
from qwenkit.loopback import is_loopback

CHAT = "/v1/chat/completions"
CONNECT_S = 10.0


@dataclass(frozen=True)
class RawAnswer:
    """The status and body of any answer, refusals included."""

    status: int
    body: str


def base_url(gateway: str) -> str:
    """Return a gateway's base URL, ``http://`` added if it has no scheme, without a final slash.

    Raises:
        InvalidValue: it is not the URL of a host.
    """
    url = gateway if "//" in gateway else f"http://{gateway}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of the port, or of an IPv6 address
        valid = False
    if not valid:
        raise InvalidValue(
            "gateway", gateway, "must be a URL such as http://47.1.2.3 or http://host:8080"
        )
    return url.rstrip("/")


def api_key() -> str:
    """Return ``OPENAI_API_KEY``, or ``none``, which a server without keys takes."""
    return from_environment("OPENAI_API_KEY") or "none"


def authorities(url: str) -> ssl.SSLContext | None:
    """Return who may sign the certificate of an https address; None for http.

    These are the machine's, or those of ``SSL_CERT_FILE``, and Mozilla's, which some machines lack.
    """
    if not url.startswith("https:"):
        return None
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def curl_command(gateway: str, host: str, body: dict[str, Any]) -> str:
    """Return the documentation's curl command, to be pasted into a shell."""
    data = json.dumps(body, ensure_ascii=False)
    words = [
        "curl",
        *("-H", f"Host: {host}"),
        *("-H", "Content-Type: application/json"),
        base_url(gateway) + CHAT,
        *("-d", data),
    ]
    # With a proxy variable set, curl would send a loopback request to the proxy.
    local = ["--noproxy", "*"] if is_loopback(base_url(gateway)) else []
    return " ".join(map(shlex.quote, [*words[:1], *local, *words[1:]]))


def get(gateway: str, path: str, *, host: str = "", timeout_s: float) -> RawAnswer:
    """Send a GET request with a Host header, if one is given, and return any answer.

    Raises:
        Unreachable: nothing listens.
        WaitTimeout: no answer in time.
    """
    import requests

    url = base_url(gateway)
    with requests.Session() as session:
        session.trust_env = not is_loopback(url)
        try:
            answer = session.get(
                url + path,
                headers={"Host": host} if host else {},
                timeout=(min(CONNECT_S, timeout_s), timeout_s),
                allow_redirects=False,
            )
        except requests.Timeout:
            raise failures.timed_out(url, timeout_s) from None
        except requests.exceptions.InvalidSchema as error:  # of a proxy
            raise failures.no_client(url, error) from None
        except requests.RequestException as error:
            raise failures.unreachable(url, error) from None
    return RawAnswer(answer.status_code, answer.text)
