"""Why a request to the model failed: statuses and connection errors as our errors."""

from __future__ import annotations

from typing import Any

from qwenkit.errors import (
    Forbidden,
    NotFound,
    NotReady,
    QwenkitError,
    Rejected,
    Unreachable,
    WaitTimeout,
)
from qwenkit.inference.events import BadEvent, told_error
from qwenkit.untrusted.parsing import parse_json

_CORRECT = "correct the parameter that it names"
_BY_STATUS: dict[int, tuple[type[QwenkitError], str, str]] = {
    400: (Rejected, "the server refused the request", _CORRECT),
    401: (
        Forbidden,
        "the server wants an API key, and got none or another",
        "export OPENAI_API_KEY=…, or --set api_key_secret=NAME: the Secret that it starts with",
    ),
    403: (Forbidden, "the request is not allowed", "does a proxy answer on this port?"),
    422: (Rejected, "the server refused the request", _CORRECT),
    429: (Unreachable, "the server has too many requests", "fewer clients, or a higher max_scale"),
    500: (QwenkitError, "the server failed", "read the pod's log: kubectl logs"),
    502: (Unreachable, "the gateway lost the pod", "it may be starting or ending; try again"),
    503: (
        NotReady,
        "no pod answers, or every queue is full",
        "qwenkit explain; with container_concurrency set, 10 times as many requests may wait",
    ),
    504: (
        WaitTimeout,
        "the revision's timeout passed before the first byte: a cold start or a long queue",
        "raise request_timeout_s (it covers the cold start), or keep a replica with min_scale=1",
    ),
}


def from_status(
    status: int, body: str, *, url: str, host: str, model: str, location: str = ""
) -> QwenkitError:
    """Return the error for an answer of the gateway at ``url`` that is not a success.

    ``location`` is the header of a redirect.
    """
    message = _message(body)
    facts: dict[str, Any] = {"status": status, "url": url, "host": host}
    what = f"{url} answered {status}"
    if 300 <= status < 400:
        https = location.lower().startswith("https:")
        place = "https" if https else location or "a place that it does not name"
        why = f"the gateway redirects to {place}"
        fix = "does a proxy or a login page answer? --set gateway=… to the Service's own gateway"
        if https:
            fix = "http-protocol: Redirected in Knative's ConfigMap config-network does this; "
            fix += "set it to Enabled, or --set gateway=https://…"
        return Rejected(what, why, fix, **facts)
    if "chat template" in message or "chat_template" in message:
        why = f"the model's tokenizer has no chat template: {message}"
        fix = "serve a model that was made for chats (-Chat, -Instruct), or give its server one: "
        return Rejected(what, why, fix + "--chat-template in extra_args", **facts)
    if status == 404 and "model" in message and "exist" in message:
        return NotFound(
            f"the server does not serve a model named {model!r}",
            message,
            "send the name it was started with (served_model_name); GET /v1/models lists it",
            **facts,
        )
    if status == 404:
        why = (
            f"the gateway has no Service with the host {host!r}"
            if host
            else "the request has no Host header, and the gateway needs it to find the Service"
        )
        # A gateway's own 404 is empty; a server's has a message.
        why += f", or the server there has no such path: {message}" if message else ""
        fix = "is it Ready (qwenkit explain)? Then send the host of its status.url"
        return NotFound(what, why, fix, **facts)
    unknown = (QwenkitError, "the answer is not a success", "is this the Service's gateway?")
    cls, why, fix = _BY_STATUS.get(status, unknown)
    return cls(what, f"{why}: {message}" if message else why, fix, **facts)


def of_transport(
    url: str, error: BaseException, *, seconds: float, tokens: int | None = None
) -> QwenkitError:
    """Return the error for a failure of the HTTP library, whoever wrapped it.

    ``seconds`` is the limit of the request; ``tokens`` of a stream have come.
    """
    if type(error).__module__.startswith("openai"):
        error = error.__cause__ or error
    why = str(error) or type(error).__name__
    match kind(error):
        case "timeout":
            return timed_out(url, seconds, tokens)
        case "cut":
            return cut(url, tokens)
        case "not an answer":
            return not_openai(url, f"its answer is not HTTP: {why}")
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    why = str(error) or type(error).__name__
    fix = untrusted(why) or (
        "is the gateway's address right (qwenkit doctor), and the sandbox up? If only the cluster "
        "reaches it: kubectl port-forward -n kourier-system svc/kourier 8080:80, then "
        "--set gateway=http://127.0.0.1:8080"
    )
    return Unreachable(f"no connection to {url}", why, fix, url=url)


def untrusted(why: str) -> str:
    """Return what to do about a failure of TLS, empty if it is none."""
    if "WRONG_VERSION_NUMBER" in why or "record layer failure" in why:
        return "this port speaks no TLS: --set gateway=http://…"
    if "CERTIFICATE_VERIFY_FAILED" not in why:
        return ""
    if "mismatch" in why or "not valid for" in why:
        return "give the gateway by a name that its certificate has: --set gateway=https://NAME"
    if "expired" in why or "not yet valid" in why:
        return "renew the gateway's certificate; is the clock of this machine right?"
    return (
        "name the authority that signed the gateway's certificate: --set gateway_ca=FILE (PEM), "
        "or export SSL_CERT_FILE=FILE"
    )


def cut(url: str, tokens: int | None = None, why: str = "") -> Unreachable:
    """Return the error for an answer that broke off; ``tokens`` of a stream had come."""
    what = f"the stream was cut after {tokens} tokens"
    if tokens is None:
        what = f"{url} closed the connection before its answer was whole"
    return Unreachable(
        what,
        why or "the pod or its gateway was lost, or the revision's timeout passed",
        "qwenkit explain says what became of the pod; raise request_timeout_s for long answers",
        url=url,
    )


def no_client(url: str, error: BaseException) -> QwenkitError:
    """Return the error for an HTTP client that cannot be created."""
    return QwenkitError(
        f"no request can be sent to {url}",
        str(error) or type(error).__name__,
        "is a proxy variable right (ALL_PROXY, HTTP_PROXY, HTTPS_PROXY)? A SOCKS proxy needs pip "
        "install socksio pysocks; NO_PROXY names the hosts that are reached without a proxy",
        url=url,
    )


def kind(error: BaseException) -> str:
    """Return the kind of a failure of the HTTP library, by which failures are counted.

    It uses class names: the OpenAI client's HTTP library changed its modules, not its names.
    """
    name = type(error).__name__
    if name == "RemoteProtocolError":
        # "Server disconnected without …", "peer closed connection without …"; else it is no HTTP.
        return "cut" if " without sending " in str(error) else "not an answer"
    if "Connect" not in name and "Timeout" in name:
        return "timeout"
    known = {"ReadError": "cut", "WriteError": "cut", "DecodingError": "not an answer"}
    known |= dict.fromkeys(("ConnectError", "ConnectTimeout"), "no connection")
    return known.get(name, name)


def timed_out(url: str, seconds: float, tokens: int | None = None) -> WaitTimeout:
    """Return the error for a client-side timeout; ``tokens`` of a stream had come."""
    what = f"no answer from {url} within {seconds:g} s"
    if tokens:
        what = f"the answer from {url} was not whole within {seconds:g} s: {tokens} tokens came"
    return WaitTimeout(
        what,
        "a cold start can take minutes, and a queue longer",
        "raise timeout_s, or keep a replica with min_scale=1",
        url=url,
    )


def bad_event(url: str, event: BadEvent) -> QwenkitError:
    """Return the error for an event that ended a stream."""
    if event.kind == "cut":
        return cut(url, event.tokens, str(event))
    if event.kind == "not an answer":
        return not_openai(url, str(event))
    what = f"{url} ended its answer with an error"
    return QwenkitError(what, str(event), "read the pod's log: kubectl logs", url=url)


def not_openai(url: str, why: str) -> Rejected:
    """Return the error for an answer that no OpenAI server gives."""
    return Rejected(
        f"{url} did not answer as an OpenAI server",
        why,
        "is this address the gateway of the Service? its pod's log may say more: kubectl logs",
        url=url,
    )


def _message(body: str) -> str:
    """Return the message in an error's body: vLLM's JSON, OpenAI's, or short text."""
    try:
        loaded = parse_json(body)
    except ValueError:
        return body.strip()[:200]
    return told_error(loaded) or ""
