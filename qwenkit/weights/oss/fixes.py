"""What to do about OSS's errors: one table, by the code and by words of the message.

Source: https://help.aliyun.com/zh/oss/user-guide/http-403-error-code and its neighbours.
"""

from __future__ import annotations

import re

from oss2.exceptions import OssError

_ACTIONS = "oss:GetObject, PutObject, ListObjects, ListParts, AbortMultipartUpload, DeleteObject"
_TOKEN = "get new temporary keys, export id, secret and OSS_SESSION_TOKEN, and repeat: the upload "
_TOKEN += "resumes"
_OWNER = "log in to the Alibaba Cloud console as the bucket's owner, and "
_LATER = "repeat later, or ask Alibaba Cloud for a higher limit: this was repeated in vain"
_KMS = "the bucket encrypts by KMS: enable KMS and its key, and grant kms:GenerateDataKey and "
_KMS += "kms:Decrypt to the access key; or let the bucket encrypt by AES256"
_CNAME = "bind the domain to this bucket (console: bucket, Domain Names), or use OSS's own endpoint"

# Code, words of the message, fix; the first row that matches counts.
_FIXES = (
    (".*", "OSS4-HMAC|(?i:v1 signature|signature version)", "new accounts and buckets need V4 "
     "signatures: leave out oss_signature=v1, and export OSS_REGION"),
    ("NoSuchBucket", "", "create the bucket, or correct OSS_BUCKET and OSS_ENDPOINT (its region)"),
    ("AccessDenied|PermanentRedirect", "specified endpoint",
     "the bucket is in another region: export OSS_ENDPOINT={}, and OSS_REGION if it is set"),
    ("AccessDenied", "bucket policy",
     "let the bucket's owner change its Bucket Policy, or the RAM policy that denies this"),
    ("AccessDenied", "authorizer's policy",
     f"both the RAM role and the policy given to AssumeRole must allow {_ACTIONS}"),
    ("AccessDenied", "(?i)vpc endpoint", "let the policy of this VPC's endpoint allow the bucket"),
    ("AccessDenied", "referer", "allow an empty Referer in the bucket's hotlink protection"),
    ("AccessDenied", "(?i)kms", _KMS),
    ("(AccessDenied)?", "", f"grant the key {_ACTIONS} on the bucket; the key must be of the "
     "bucket's account, the endpoint of the bucket's region"),
    (r"KmsServiceNotEnabled|UbsmsInvalidBid|Key(Disabled|PendingDeletion)|.*KMS.*|Forbidden\.Key.*",
     "", _KMS),
    ("InvalidAccessKeyId", "", "correct OSS_ACCESS_KEY_ID, or enable the key (console: RAM); a "
     "temporary key also needs a current OSS_SESSION_TOKEN"),
    ("SignatureDoesNotMatch", "", "correct OSS_ACCESS_KEY_SECRET, and OSS_REGION if it is set"),
    ("InvalidArgument", "signing region", "export OSS_REGION= the bucket's own, such as "
     "cn-hangzhou: the console shows it"),
    ("(Invalid)?SecurityToken.*|AccessKeyIdAndSecurityTokenNotMatch", "", _TOKEN),
    ("PublicEndpointForbidden", "", "accounts made since 2025-03-20 reach data in mainland regions "
     "by a custom domain of the bucket (set it as oss_endpoint, and oss_cname=true), or from "
     "inside by oss-REGION-internal.aliyuncs.com"),
    ("SecondLevelDomainForbidden|NonStandardHostForbidden|NoSuchCname|CnameDenied", "", _CNAME),
    ("InvalidObjectState|RestoreAlreadyInProgress", "", "it is archived: restore it (ossutil "
     "restore -r oss://BUCKET/PREFIX/) and wait, or upload it again to a Standard bucket"),
    (".*(InDebt|Overdue).*|UserDisable", "", f"{_OWNER}pay what is due, or ask why it is disabled"),
    (".*RealName.*", "", f"{_OWNER}verify the account's real name"),
    ("AbnormalBucketOwnerStatus|BucketDisable", "", f"{_OWNER}see why OSS is closed to it"),
    (".*(Immutable|(?i:worm)).*", "", "a retention policy (WORM) keeps it as it is until its "
     "time is over: upload to another prefix"),
    ("(File|Object)AlreadyExists", "", "this bucket forbids overwriting: choose another prefix"),
    (".*(LimitExceeded|SlowDown|Qos|Qps).*", "", _LATER),
)  # fmt: skip


def fix_of(error: OssError) -> str:
    """Return what to do about an error; empty where only its message helps."""
    code, body = error.code or "", str(error.body)
    if not code and error.status not in (401, 403):
        return ""
    said = error.message or ""
    found = (
        f for known, words, f in _FIXES if re.fullmatch(known, code) and re.search(words, said)
    )
    fix = next(found, "").replace("{}", error.details.get("Endpoint") or "that of its region")
    if action := re.search("<AuthAction>([^<]+)<", body):
        verb = "a policy denies" if "ExplicitDeny" in body else "no policy allows"
        return f"{verb} {action[1]}: {fix}"
    return fix


def is_busy(error: OssError) -> bool:
    """Return whether OSS asks for fewer requests or bytes, whatever the status says."""
    return bool(re.search("LimitExceeded|SlowDown", error.code or ""))
