"""Call OSS with retries, and translate its error codes into our errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
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
from qwenkit.loopback import is_loopback
from qwenkit.parameters.oss_hosts import internal_of
from qwenkit.weights.retry import (
    LONGEST_PAUSE_S,
    Result,
    RetryPolicy,
    asked_s,
    no_answer,
    retry,
)

_CLIENT, _REQUEST = -1, -2  # oss2's own statuses
CHANGES = "repeat it; if it fails again, a proxy on the way or faulty memory changes bytes"
_SET = "set the clock (timedatectl set-ntp true; macOS: sudo sntp -sS time.apple.com), repeat"
_CHANGED_ATTEMPTS = 5  # for bytes that change on their way; more would not help

_KNOWN = json.loads((files("qwenkit.weights.oss") / "errors.json").read_text("utf-8"))["errors"]
_BUSY = re.compile("LimitExceeded|SlowDown")  # with any status
_CLASSES = {401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 412: Conflict}


def call_oss(
    bucket: oss2.Bucket,
    what: str,
    action: Callable[[], Result],
    policy: RetryPolicy | None = None,
) -> Result:
    """Send a request, repeat it if that may help, and turn oss2's errors into ours.

    ``what`` names the operation in errors; ``action`` sends the request, with a new body each
    time, and reads the answer. The default policy makes six attempts.
    """
    try:
        return retry(action, policy or RetryPolicy(), _transient)
    except OssError as error:
        raise _translated(error, what, bucket.endpoint) from error
    except requests.RequestException as error:
        raise _silent(what, bucket.endpoint, error) from error


def get_if_exists(
    bucket: oss2.Bucket,
    what: str,
    action: Callable[[], Result],
    policy: RetryPolicy | None = None,
) -> Result | None:
    """Send a request for an object as ``call_oss`` does; None if the object does not exist.

    Raises:
        NotFound: the bucket does not exist.
    """
    try:
        return call_oss(bucket, what, action, policy)
    except NotFound as error:
        if error.context.get("code") == "NoSuchBucket":
            raise
        return None


class CrcMismatch(TransferError):
    """The server got or holds other bytes than were sent."""


def check_crc(what: str, stated: int | None, crc: int) -> None:
    """Refuse an answer whose CRC-64 is not that of what was sent."""
    require_crc(what, stated)
    if stated != crc:
        raise CrcMismatch(
            f"{what}: the server holds other bytes than were sent",
            f"its CRC-64 is {stated}, ours is {crc}",
            CHANGES,
        )


def require_crc(what: str, stated: int | None) -> None:
    """Refuse an answer without a CRC-64."""
    if stated is None:
        raise TransferError(
            f"{what}: the server's answer has no CRC-64",
            "without x-oss-hash-crc64ecma the upload cannot be verified",
            "use an OSS endpoint; some proxies and S3 gateways drop the header",
        )


def _translated(error: OssError, what: str, endpoint: str) -> QwenkitError:
    """Return our error for one of oss2's, with the request id for Alibaba Cloud support."""
    if error.status == _CLIENT:
        return InvalidValue("request", what, str(error.body))
    if error.status == _REQUEST:
        return _silent(what, endpoint, error.exception)
    facts = {"status": error.status, "code": error.code, "request_id": error.request_id}
    if error.code == "RequestTimeTooSkewed":
        return _skewed(error, what, facts)
    if error.code == "InvalidDigest":
        arrived = f"{what}: other bytes arrived than were sent"
        return CrcMismatch(arrived, _message(error), CHANGES, **facts)
    other = Unreachable if error.status >= 500 else Rejected
    cls: type[QwenkitError] = _CLASSES.get(error.status, other)
    return cls(f"{what}: OSS refused", _message(error), _fix(error, endpoint), **facts)


def _silent(what: str, endpoint: str, error: Exception) -> Unreachable:
    """Return the error for no answer: a bucket's own domain is perhaps not said to be one."""
    found = no_answer(what, endpoint, error)
    if not (is_loopback(endpoint) or ".aliyuncs.com" in endpoint):
        found.fix += "; a custom domain of the bucket needs oss_cname=true"
    return found


def _fix(error: OssError, endpoint: str) -> str:
    """Return what to do, by the table; empty where only the server's message helps."""
    if not error.code and error.status not in (401, 403):
        return ""
    rows = (row for row in _KNOWN if re.fullmatch(row["code"], error.code))
    found = (row["fix"] for row in rows if re.search(row.get("says", ""), error.message or ""))
    right = error.details.get("Endpoint") or "that of its region"
    fix = next(found, "").format(endpoint=right, internal=internal_of(endpoint))
    body = str(error.body)
    if action := re.search("<AuthAction>([^<]+)<", body):
        verb = "a policy denies" if "ExplicitDeny" in body else "no policy allows"
        return f"{verb} {action[1]}: {fix}"
    return fix


def _message(error: OssError) -> str:
    """Return the server's message. Answers to HEAD and those of a proxy have none."""
    text = ": ".join(filter(None, (error.code, error.message)))
    text = text or f"status {error.status} without an error document"
    if error.request_id:
        return f"{text} (request id {error.request_id})"
    return f"{text}, without a request id: perhaps a proxy in front of OSS answered"


def _transient(error: Exception, failures: int) -> bool:
    """Return whether the same request may succeed if it is sent again."""
    if isinstance(error, CrcMismatch) or getattr(error, "code", "") == "InvalidDigest":
        return failures < _CHANGED_ATTEMPTS
    if isinstance(error, requests.RequestException):
        return True
    if not isinstance(error, OssError) or asked_s(error) > LONGEST_PAUSE_S:
        return False
    return (
        error.status == _REQUEST
        or error.status >= 500
        or error.status in (408, 429)
        or _BUSY.search(error.code) is not None
        or error.code == "RequestTimeout"
    )


def _skewed(error: OssError, what: str, facts: dict[str, Any]) -> QwenkitError:
    try:
        server = datetime.fromisoformat(error.details["ServerTime"])
        skew_s = round((datetime.now(UTC) - server).total_seconds())
    except (KeyError, TypeError, ValueError):
        return Forbidden(f"{what}: this machine's clock is wrong", error.message, _SET, **facts)
    direction = "ahead of" if skew_s > 0 else "behind"
    return Forbidden(
        f"{what}: this machine's clock is {abs(skew_s)} s {direction} the server's",
        "OSS refuses requests whose time is more than 900 s off",
        _SET,
        skew_s=skew_s,
        **facts,
    )
