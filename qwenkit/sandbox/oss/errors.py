"""The errors of OSS: one table from code to HTTP status, message and EC."""

from __future__ import annotations

_TABLE: dict[str, tuple[int, str]] = {
    "AccessDenied": (403, "You have no right to access this object because of bucket acl."),
    "BucketNotEmpty": (409, "The bucket you tried to delete is not empty."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size."),
    "EntityTooSmall": (400, "Your proposed upload smaller than the minimum allowed size."),
    "FileAlreadyExists": (
        409,
        "The object you specified already exists and can not be overwritten.",
    ),
    "IncompleteBody": (400, "The body does not have the length that Content-Length says."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (
        403,
        "The OSS Access Key Id you provided does not exist in our records.",
    ),
    "InvalidArgument": (400, "Invalid Argument."),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
    "InvalidObjectName": (400, "The specified object is not valid."),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found or the specified entity "
        "tag might not have matched the part's entity tag.",
    ),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. Parts list must specified in order"
        " by part number.",
    ),
    "InvalidRange": (416, "The requested range cannot be satisfied."),
    "MalformedXML": (
        400,
        "The XML you provided was not well-formed or did not validate against our "
        "published schema.",
    ),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "NoSuchBucket": (404, "The specified bucket does not exist."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload"
        " may have been aborted or completed.",
    ),
    "NotImplemented": (400, "The sandbox's OSS does not do this."),
    "NotModified": (304, ""),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold."),
    "RequestTimeTooSkewed": (
        403,
        "The difference between the request time and the current time is too large.",
    ),
    "ServiceUnavailable": (503, "Please reduce your request rate."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    ),
}
# Where it is known.
_EC = {
    "AccessDenied": "0003-00000001",
    "InvalidAccessKeyId": "0002-00000902",
    "NoSuchBucket": "0015-00000101",
    "NoSuchKey": "0026-00000001",
    "RequestTimeTooSkewed": "0002-00000504",
    "SignatureDoesNotMatch": "0002-00000040",
}


class OssError(Exception):
    """An answer other than success, raised by a handler and rendered by the server.

    Args:
        code: a key of the table; decides the HTTP status.
        message: instead of the table's.
        ec: instead of the table's.
        details: further children of ``<Error>``.
    """

    def __init__(self, code: str, message: str = "", *, ec: str = "", **details: str) -> None:
        self.code = code
        self.status, default = _TABLE[code]
        self.message = message or default
        # An EC names one cause; a message of our own is another cause.
        self.ec = ec or ("" if message else _EC.get(code, ""))
        self.details = details
        super().__init__(f"{self.status} {code}: {self.message}")
