"""Verify OSS signatures V1 and V4, in the Authorization header or in a presigned URL."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.xml import timestamp

MAX_SKEW_S = 900
V4 = "OSS4-HMAC-SHA256"
_V4_SIGNED = {"content-type", "content-md5"}

# Parameters that V1 signs; every one of them but the modifiers names an operation.
_SUBRESOURCES = """
    acl accessPoint accessPointPolicy append asyncFetch bucketArchiveDirectRead bucketInfo
    callback callback-var cname comp continuation-token cors delete encryption endTime group
    httpsConfig inventory inventoryId lifecycle link live location logging metaQuery objectInfo
    objectMeta partNumber policy position publicAccessBlock qos qosInfo qosRequester
    redundancyTransition referer regionList replication replicationLocation replicationProgress
    requestPayment requesterQosInfo resourceGroup resourcePool resourcePoolBuckets
    resourcePoolInfo response-cache-control response-content-disposition
    response-content-encoding response-content-language response-content-type response-expires
    restore security-token sequential startTime stat status style styleName symlink tagging
    transferAcceleration uploadId uploads versionId versioning versions vod website worm
    wormExtend wormId x-oss-ac-forward-allow x-oss-ac-source-ip x-oss-ac-subnet-mask
    x-oss-ac-vpc-id x-oss-access-point-name x-oss-async-process x-oss-process
    x-oss-redundancy-transition-taskid x-oss-request-payer x-oss-target-redundancy-type
    x-oss-traffic-limit x-oss-write-get-object-response
"""
SUBRESOURCES = frozenset(_SUBRESOURCES.split())


@dataclass(frozen=True)
class SignedRequest:
    """What a signature covers of a request. Header names are lower-case, values decoded."""

    method: str
    bucket: str
    key: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The resource that is signed."""
        return f"/{self.bucket}/{self.key}" if self.bucket else "/"

    def parameter(self, name: str) -> str:
        """Return a query parameter's value, empty if it is absent."""
        return next((value for key, value in self.query if key == name), "")

    def header(self, name: str) -> str:
        """Return a header's value, empty if it is absent."""
        return self.headers.get(name, "")


def verify(signed: SignedRequest, keys: Mapping[str, str], *, region: str, now: datetime) -> None:
    """Check a request's signature.

    Raises:
        OssError: AccessDenied (also without a signature), InvalidAccessKeyId,
            InvalidArgument, NotImplemented, RequestTimeTooSkewed or SignatureDoesNotMatch.
    """
    authorization = signed.header("authorization")
    version = signed.parameter("x-oss-signature-version")
    if authorization.startswith("OSS2 ") or version == "OSS2":
        message = "The sandbox's OSS verifies signatures V1 and V4, not V2."
        raise OssError("NotImplemented", message)
    if authorization.startswith(f"{V4} "):
        _v4_header(signed, authorization, keys, region, now)
    elif authorization.startswith("OSS "):
        _v1_header(signed, authorization, keys, now)
    elif authorization:
        raise OssError("InvalidArgument", "Unsupported authorization type.")
    elif version == V4:
        _v4_url(signed, keys, region, now)
    elif signed.parameter("Signature"):
        _v1_url(signed, keys, now)
    elif signed.bucket:
        raise OssError("AccessDenied")
    else:
        raise OssError("AccessDenied", "Anonymous access is forbidden for this operation.")


# --- V1 -----------------------------------------------------------------------------------


def _v1_header(
    signed: SignedRequest, authorization: str, keys: Mapping[str, str], now: datetime
) -> None:
    key_id, _, given = authorization.removeprefix("OSS ").strip().partition(":")
    secret = _secret(keys, key_id)
    date = signed.header("x-oss-date") or signed.header("date")
    _check_skew(_moment(date), now)
    _v1_compare(signed, key_id, secret, date, given)


def _v1_url(signed: SignedRequest, keys: Mapping[str, str], now: datetime) -> None:
    key_id, expires = signed.parameter("OSSAccessKeyId"), signed.parameter("Expires")
    secret = _secret(keys, key_id)
    _check_expiry(expires, now)
    _v1_compare(signed, key_id, secret, expires, signed.parameter("Signature"))


def _v1_compare(signed: SignedRequest, key_id: str, secret: str, date: str, given: str) -> None:
    fields = [signed.method, signed.header("content-md5"), signed.header("content-type"), date]
    parameters = sorted(pair for pair in signed.query if pair[0] in SUBRESOURCES)
    resource = signed.path + ("?" + _joined(parameters) if parameters else "")
    text = "\n".join(fields) + "\n" + _header_lines(signed, set()) + resource
    wanted = base64.b64encode(hmac.digest(_bytes(secret), _bytes(text), "sha1")).decode()
    _require_equal(key_id, given, wanted, text)


# --- V4 -----------------------------------------------------------------------------------


def _v4_header(
    signed: SignedRequest, authorization: str, keys: Mapping[str, str], region: str, now: datetime
) -> None:
    fields = dict(
        item.partition("=")[::2]
        for item in re.split(r",\s*", authorization.removeprefix(f"{V4} ").strip())
    )
    date = signed.header("x-oss-date") or signed.header("date")
    scope, secret, moment = _v4_scope(fields.get("Credential", ""), keys, region, date)
    _check_skew(moment, now)
    text = _v4_text(signed, moment, scope, fields.get("AdditionalHeaders", ""))
    _v4_compare(scope, fields.get("Signature", ""), secret, text)


def _v4_url(signed: SignedRequest, keys: Mapping[str, str], region: str, now: datetime) -> None:
    scope, secret, moment = _v4_scope(
        signed.parameter("x-oss-credential"), keys, region, signed.parameter("x-oss-date")
    )
    seconds = signed.parameter("x-oss-expires")
    if not _is_number(seconds):
        raise OssError("InvalidArgument", "x-oss-expires must be a number of seconds.")
    if moment > now:
        _check_skew(moment, now)
    _check_expiry(str(int(moment.timestamp()) + int(seconds)), now)
    text = _v4_text(signed, moment, scope, signed.parameter("x-oss-additional-headers"))
    _v4_compare(scope, signed.parameter("x-oss-signature"), secret, text)


@dataclass(frozen=True)
class _Scope:
    key_id: str
    date: str
    region: str
    product: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.product}/aliyun_v4_request"


def _v4_scope(
    credential: str, keys: Mapping[str, str], region: str, date: str
) -> tuple[_Scope, str, datetime]:
    fields = credential.split("/")
    if len(fields) != 5 or fields[4] != "aliyun_v4_request":
        raise OssError("InvalidArgument", "Invalid Credential in Authorization header.")
    scope = _Scope(*fields[:4])
    secret = _secret(keys, scope.key_id)
    moment = _moment(date)
    if scope.region != region:
        message = "Invalid signing region in Authorization header."
        raise OssError("InvalidArgument", message, ec="0002-00000226")
    if scope.product != "oss":
        message = "Invalid signing product in Authorization header."
        raise OssError("InvalidArgument", message, ec="0002-00000227")
    if scope.date != f"{moment:%Y%m%d}":
        raise OssError("InvalidArgument", "Invalid signing date in Authorization header.")
    return scope, secret, moment


def _v4_text(signed: SignedRequest, moment: datetime, scope: _Scope, additional: str) -> str:
    names = sorted(name.lower() for name in additional.split(";") if name)
    request = "\n".join(
        [
            signed.method,
            _quote(signed.path, safe="/"),
            _encoded_query(signed),
            _header_lines(signed, {*names, *_V4_SIGNED}),
            ";".join(names),
            signed.header("x-oss-content-sha256") or "UNSIGNED-PAYLOAD",
        ]
    )
    digest = hashlib.sha256(_bytes(request)).hexdigest()
    return "\n".join([V4, f"{moment:%Y%m%dT%H%M%SZ}", str(scope), digest])


def _v4_compare(scope: _Scope, given: str, secret: str, text: str) -> None:
    key = _bytes(f"aliyun_v4{secret}")
    for step in (scope.date, scope.region, scope.product, "aliyun_v4_request"):
        key = hmac.digest(key, _bytes(step), "sha256")
    wanted = hmac.digest(key, _bytes(text), "sha256").hex()
    _require_equal(scope.key_id, given, wanted, text)


# --- shared -------------------------------------------------------------------------------


def _header_lines(signed: SignedRequest, others: set[str]) -> str:
    return "".join(
        f"{name}:{value}\n"
        for name, value in sorted(signed.headers.items())
        if name.startswith("x-oss-") or name in others
    )


def _encoded_query(signed: SignedRequest) -> str:
    """Encode and sort all parameters but the signature."""
    pairs = ((_quote(name), _quote(value)) for name, value in signed.query)
    return _joined(sorted(pair for pair in pairs if pair[0] != "x-oss-signature"))


def _joined(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" if value else name for name, value in pairs)


def _quote(text: str, safe: str = "") -> str:
    return quote(_bytes(text), safe=safe)


def _bytes(text: str) -> bytes:
    # Header values arrive as bytes that need not be UTF-8.
    return text.encode("utf-8", "surrogateescape")


def _secret(keys: Mapping[str, str], key_id: str) -> str:
    if key_id not in keys:
        raise OssError("InvalidAccessKeyId", OSSAccessKeyId=key_id)
    return keys[key_id]


def _require_equal(key_id: str, given: str, wanted: str, text: str) -> None:
    if not hmac.compare_digest(_bytes(given), _bytes(wanted)):
        raise OssError(
            "SignatureDoesNotMatch",
            OSSAccessKeyId=key_id,
            SignatureProvided=given,
            StringToSign=text,
        )


# --- time ---------------------------------------------------------------------------------


def _moment(date: str) -> datetime:
    try:
        if re.fullmatch(r"\d{8}T\d{6}Z", date):
            return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        moment = parsedate_to_datetime(date)
    except ValueError as error:
        raise OssError("AccessDenied", "OSS authentication requires a valid Date.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _check_skew(moment: datetime, now: datetime) -> None:
    if abs(now - moment) > timedelta(seconds=MAX_SKEW_S):
        raise OssError(
            "RequestTimeTooSkewed",
            MaxAllowedSkewMilliseconds=str(MAX_SKEW_S * 1000),
            RequestTime=timestamp(moment.timestamp()),
            ServerTime=timestamp(now.timestamp()),
        )


def _check_expiry(expires: str, now: datetime) -> None:
    if not _is_number(expires):
        raise OssError("AccessDenied", "Invalid date (should be seconds since epoch).")
    if int(expires) < now.timestamp():
        raise OssError(
            "AccessDenied",
            "Request has expired.",
            Expires=timestamp(int(expires)),
            ServerTime=timestamp(now.timestamp()),
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12
