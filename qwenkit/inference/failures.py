"""What can go wrong between a client and the model, in words: whose 404, why a 503."""

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

_BY_STATUS: dict[int, tuple[type[QwenkitError], str, str]] = {
    400: (Rejected, "the server refused the request", ""),
    401: (Forbidden, "the server wants an API key", "export OPENAI_API_KEY"),
    403: (Forbidden, "the request is not allowed", "is this port one where a proxy answers?"),
    422: (Rejected, "the server refused the request", ""),
    429: (Unreachable, "the server has too many requests", "fewer clients, or a higher max_scale"),
    500: (QwenkitError, "the server failed", "kubectl logs of the pod say why"),
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


def from_status(status: int, message: str, *, url: str, host: str, model: str) -> QwenkitError:
    """Return the error for an HTTP status that is no answer.

    Args:
        status: the HTTP status.
        message: the body's message, empty if a proxy answered.
        url: where the request went.
        host: the ``Host`` that it carried.
        model: the model that it named.
    """
    facts: dict[str, Any] = {"status": status, "url": url, "host": host}
    what = f"{url} answered {status}"
    if status == 404 and "model" in message and "exist" in message:
        return NotFound(
            f"the server does not serve a model named {model!r}",
            message,
            "send the name it was started with (served_model_name); GET /v1/models lists it",
            **facts,
        )
    if status == 404:
        why = (
            f"the gateway knows no Service with the host {host!r}"
            if host
            else "no Host header was sent, and the gateway goes by it"
        )
        # A gateway's own 404 is empty; a server behind it says something.
        why += f", or the server there has no such path: {message}" if message else ""
        fix = "send the host of the Service's status.url: kubectl get ksvc"
        return NotFound(what, why, fix, **facts)
    unknown = (QwenkitError, "the answer is no success", "")
    cls, why, fix = _BY_STATUS.get(status, unknown)
    return cls(what, f"{why}: {message}" if message else why, fix, **facts)


def unreachable(url: str, reason: str) -> Unreachable:
    """Say that nobody listens at the gateway's address."""
    return Unreachable(
        f"no connection to {url}",
        reason,
        "is the gateway's address right (qwenkit doctor), and the sandbox up? If only the cluster "
        "reaches it: kubectl port-forward -n kourier-system svc/kourier 8080:80, then "
        "--set gateway=http://127.0.0.1:8080",
        url=url,
    )


def timed_out(url: str, seconds: float) -> WaitTimeout:
    """Say that the client gave up."""
    return WaitTimeout(
        f"no answer from {url} within {seconds:g} s",
        "a cold start can take minutes, and a queue longer",
        "raise timeout_s, or keep a replica with min_scale=1",
        url=url,
    )


def root(error: BaseException) -> str:
    """Return the innermost cause of a wrapped connection error."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
