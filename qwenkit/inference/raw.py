"""Plain HTTP requests to the gateway: as a curl command, or by ``get``."""

from __future__ import annotations

import json
import shlex
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import certifi

from qwenkit.errors import InvalidValue, SettingsError
from qwenkit.inference import failures
from qwenkit.loopback import is_loopback

if TYPE_CHECKING:
    import openai

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


def authorities(url: str, ca: str = "") -> ssl.SSLContext | None:
    """Return who may sign the certificate of an https address; None for http.

    Those in the file ``ca`` alone; without one the machine's, or those of ``SSL_CERT_FILE``, and
    Mozilla's, which some machines lack. The name that is verified, and sent as SNI, is the URL's.

    Raises:
        SettingsError: the file cannot be read, or has no certificate.
    """
    if not url.startswith("https:"):
        return None
    if not ca:
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        return context
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl's are too
        rule = f"must be a file of certificates (PEM): {error.strerror or error}"
        raise SettingsError("gateway_ca", ca, rule) from None
    # Python 3.13 refuses authorities without extensions that OpenSSL and curl do without.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def http_client(gateway: str, ca: str, timeout_s: float) -> openai.DefaultHttpxClient:
    """Return a client of the OpenAI client's HTTP library that uses no proxy for loopback.

    Raises:
        SettingsError: the file ``ca`` is none of certificates.
        QwenkitError: a proxy variable, or the machine's certificates, cannot be used.
    """
    import openai

    try:
        return openai.DefaultHttpxClient(
            trust_env=not is_loopback(gateway),
            follow_redirects=False,
            verify=authorities(gateway, ca) or True,
            timeout=openai.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        )
    except (ImportError, OSError, ValueError) as error:
        raise failures.no_client(gateway, error) from None


def curl_command(
    gateway: str, host: str, body: dict[str, Any], *, ca: str = "", keyed: bool = False
) -> str:
    """Return the documentation's curl command, to be pasted into a shell.

    With ``keyed`` it sends the API key that the shell has in ``OPENAI_API_KEY``.
    """
    data = json.dumps(body, ensure_ascii=False)
    words = [
        "curl",
        *("-H", f"Host: {host}"),
        *("-H", "Content-Type: application/json"),
        base_url(gateway) + CHAT,
        *("-d", data),
    ]
    # With a proxy variable set, curl would send a loopback request to the proxy.
    more = ["--noproxy", "*"] if is_loopback(base_url(gateway)) else []
    more += ["--cacert", ca] if ca and base_url(gateway).startswith("https:") else []
    first, *rest = map(shlex.quote, [words[0], *more, *words[1:]])
    key = ['-H "Authorization: Bearer $OPENAI_API_KEY"'] if keyed else []
    return " ".join([first, *key, *rest])


def get(gateway: str, path: str, *, ca: str = "", timeout_s: float) -> RawAnswer:
    """Send a GET request without the Service's host, and return any answer.

    Raises:
        Unreachable: nothing listens.
        WaitTimeout: no answer in time.
    """
    url = base_url(gateway)
    with http_client(url, ca, timeout_s) as client:
        try:
            answer = client.get(url + path)
        except Exception as error:
            raise failures.of_transport(url, error, seconds=timeout_s) from None
    return RawAnswer(answer.status_code, answer.text)
