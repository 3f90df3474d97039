"""What OSS means when it refuses: one table from its codes to our errors and to retries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import oss2
import requests
from oss2.exceptions import OssError

from qwenkit.errors import (
    Conflict,
    Forbidden,
    InvalidValue,
    NotFound,
    QwenkitError,
    Rejected,
    TransferError,
    Unreachable,
)
from qwenkit.weights.retry import Patience, Result, retry

_CLIENT, _REQUEST = -1, -2  # oss2's own statuses
_EXPIRED = ("SecurityTokenExpired", "InvalidSecurityToken", "InvalidAccessKeyId")

_FIXES = {
    "NoSuchBucket": "create the bucket, or correct OSS_BUCKET and OSS_ENDPOINT (its region)",
    "AccessDenied": "grant the key oss:GetObject, PutObject, ListObjects, ListParts, "
    "AbortMultipartUpload and DeleteObject on the bucket, or use its own region's endpoint",
    "InvalidAccessKeyId": "correct OSS_ACCESS_KEY_ID; a temporary key also needs a current "
    "OSS_SESSION_TOKEN",
    "SignatureDoesNotMatch": "correct OSS_ACCESS_KEY_SECRET, and OSS_REGION if it is set",
    "SecurityTokenExpired": "get new temporary keys, export them, and repeat: it resumes",
    "InvalidSecurityToken": "get new temporary keys, export them, and repeat: it resumes",
}


def ask(
    bucket: oss2.Bucket,
    what: str,
    action: Callable[[], Result],
    patience: Patience | None = None,
) -> Result:
    """Send a request until it is answered, and turn oss2's errors into ours.

    Args:
        bucket: whose endpoint the message names.
        what: what is attempted, for the message.
        action: sends the request, with a body built anew, and reads its answer.
        patience: how often, and until when; default six times.
    """
    try:
        return retry(action, patience or Patience(), _transient)
    except OssError as error:
        raise _translated(error, what, bucket.endpoint) from error
    except requests.RequestException as error:
        raise _silent(what, bucket.endpoint, error) from error


def _translated(error: OssError, what: str, endpoint: str) -> QwenkitError:
    """Return our error for one of oss2's, with the request id that support asks for."""
    if error.status == _CLIENT:
        return InvalidValue("request", what, str(error.body))
    if error.status == _REQUEST:
        return _silent(what, endpoint, error.exception)
    facts = {"status": error.status, "code": error.code, "request_id": error.request_id}
    if error.code == "RequestTimeTooSkewed":
        return _skewed(error, what, facts)
    fix = _FIXES.get(error.code, "")
    return _class_of(error)(f"{what}: OSS refused", _said(error), fix, **facts)


def _said(error: OssError) -> str:
    """Return the server's words. Answers to HEAD have none, nor have those of a proxy."""
    said = ": ".join(filter(None, (error.code, error.message)))
    said = said or f"status {error.status} without an error document"
    if error.request_id:
        return f"{said} (request id {error.request_id})"
    return f"{said}, without a request id: perhaps something in front of OSS answered"


def _transient(error: Exception, failures: int) -> bool:
    """Tell whether the same request may succeed if it is sent again."""
    if isinstance(error, CrcMismatch):
        return failures < 5
    if isinstance(error, requests.RequestException):
        return True
    if not isinstance(error, OssError):
        return False
    if error.code in _EXPIRED:
        return failures == 1  # once, in case the credentials were refreshed meanwhile
    return (
        error.status == _REQUEST
        or error.status >= 500
        or error.status in (408, 429)
        or error.code == "RequestTimeout"
    )


class CrcMismatch(TransferError):
    """The server holds other bytes than were sent."""


def _silent(what: str, endpoint: str, error: Exception) -> Unreachable:
    return Unreachable(
        f"{what}: {endpoint} does not answer",
        type(error).__name__,
        "check the network, the endpoint and the proxy variables",
    )


def _class_of(error: OssError) -> type[QwenkitError]:
    if error.status in (401, 403):
        return Forbidden
    if error.status == 404:
        return NotFound
    if error.status in (409, 412):
        return Conflict
    return Unreachable if error.status >= 500 else Rejected


def _skewed(error: OssError, what: str, facts: dict[str, Any]) -> QwenkitError:
    try:
        server = datetime.fromisoformat(error.details["ServerTime"])
        skew_s = round((datetime.now(UTC) - server).total_seconds())
    except (KeyError, TypeError, ValueError):
        return Forbidden(f"{what}: this machine's clock is wrong", error.message, **facts)
    direction = "ahead of" if skew_s > 0 else "behind"
    return Forbidden(
        f"{what}: this machine's clock is {abs(skew_s)} s {direction} the server's",
        "OSS refuses requests whose time is more than 900 s off",
        "set the clock (timedatectl set-ntp true; macOS: sudo sntp -sS time.apple.com), repeat",
        skew_s=skew_s,
        **facts,
    )
