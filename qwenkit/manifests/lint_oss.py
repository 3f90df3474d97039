"""Check ``volumeAttributes``: the OSS driver's own rules, and ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from qwenkit.capacity.finding import Finding
from qwenkit.parameters.oss_hosts import internal_of, region_of

# fmt: off
_KEYS = (
    "bucket", "url", "path", "fuseType", "otherOpts", "authType", "roleName", "ramRole",
    "roleArn", "oidcProviderArn", "serviceAccountName", "assumeRoleArn", "externalId",
    "secretRef", "secretProviderClass", "region", "sigVersion", "encrypted", "kmsKeyId",
    "metricsTop", "dnsPolicy", "useSharedPath", "volumeAs", "direct", "runtimeClass", "overlay",
    "containerNetworkFileSystem", "agenticBucket", "bucketSpace", "bucketSpacePrefix",
    "sandboxId", "sandboxCredProviderName", "credentialProviderName", "akId", "akSecret",
)
# fmt: on
_OSSFS2_AUTH = ("", "rrsa", "sts")
_OSSFS_AUTH = (*_OSSFS2_AUTH, "public", "csi-secret-store", "agent-identity")


def attribute_findings(attributes: Mapping[str, object]) -> Iterator[Finding]:
    """Examine the attributes of one volume, read as the driver reads them; ``where`` is a key."""
    given = {str(key).strip().lower(): str(value).strip() for key, value in attributes.items()}
    read = {key: given.get(key.lower(), "") for key in _KEYS}
    yield from unknown_attributes(attributes, _KEYS, "oss-unknown-attribute")
    yield from _location(read)
    yield from _client(read)
    yield from _authorization(read)


def unknown_attributes(
    attributes: Mapping[str, object], keys: Sequence[str], rule: str
) -> Iterator[Finding]:
    """Find the attributes that a driver does not know."""
    known = {key.lower(): key for key in keys}
    for key in attributes:
        if str(key).strip().lower() not in known:
            close = get_close_matches(str(key).lower(), known, n=1)
            fix = f"did you mean {known[close[0]]}?" if close else "remove it"
            message = f"{key!r} is not an attribute of the driver and is ignored silently"
            yield Finding("warning", rule, str(key), message, fix)


def _location(read: Mapping[str, str]) -> Iterator[Finding]:
    bucket, url, path = read["bucket"], read["url"], read["path"]
    if not read["containerNetworkFileSystem"] and not read["agenticBucket"]:
        for key in ("bucket", "url"):
            if not read[key]:
                fix = f"set {'OSS_BUCKET' if key == 'bucket' else 'OSS_ENDPOINT'} and render again"
                yield _refused("oss-empty", key, "parameters error: Url/Bucket empty", fix)
    host = re.sub("^https?://", "", url)
    if bucket and host.startswith(f"{bucket}.") and len(host.split(".")) >= 4:
        message = f"url error: url is invalid, {url} is a bucket domain name, please use endpoint"
        yield _refused("oss-bucket-domain", "url", f"{message} instead", host.split(".", 1)[1])
    if path and not path.startswith("/"):
        message = f"path error: start with {path[0]}, should start with /"
        yield _refused("oss-path", "path", message, f"write /{path}")
    region = region_of(host)
    if "oss-accelerate" in host:
        message = "oss-accelerate endpoints name no region: they speed up clients far away, for a "
        message += "price, and are not for mounting from inside"
        fix = "use the endpoint of the bucket's region: oss-REGION-internal.aliyuncs.com"
        yield Finding("warning", "oss-accelerate", "url", message, fix)
    elif region and not re.search(r"-internal\.|privatelink|^vpc100-", host):
        fix = f"from nodes of the same region use {internal_of(host)}"
        message = "a public endpoint is slower from the cluster, and its traffic is billed"
        yield Finding("advice", "oss-public-endpoint", "url", message, fix)
    elif re.search(r"[a-z].*\.", host) and not re.search(r"\.aliyuncs\.com\b|^localhost|^\[", host):
        message = "a custom domain: the driver reads no region in it, and says of none that it is "
        message += "taken; it is given as it is"
        fix = "mount by the region's endpoint: --set oss_internal_endpoint=oss-REGION-internal.…"
        yield Finding("advice", "oss-custom-domain", "url", message, fix)


def _client(read: Mapping[str, str]) -> Iterator[Finding]:
    fuse, encrypted = read["fuseType"].lower() or "ossfs", read["encrypted"]
    if fuse not in ("ossfs", "ossfs2"):
        message = f"parameters error: Unsupported fuseType {fuse}"
        yield _refused("oss-fuse-type", "fuseType", message, "use ossfs2 or ossfs")
    if fuse == "ossfs2" and encrypted:
        message = "encrypted error: ossfs2 does not support encryption"
        yield _refused("oss-encrypted", "encrypted", message, "remove it, or use fuseType: ossfs")
    elif encrypted and encrypted not in ("aes256", "kms"):
        message = "encrypted error: invalid SSE encrypted type"
        yield _refused("oss-encrypted", "encrypted", message, "use aes256 or kms")
    if not re.fullmatch(r"(\s*-o(\s+\S+|\S+)(?!\S))*\s*", read["otherOpts"]):
        message = f'invalid otherOpts: "{read["otherOpts"]}"'
        fix = "put -o before each option: -o a=1 -o b"
        yield Finding("error", "oss-other-opts", "otherOpts", message, fix)
    if fuse == "ossfs2" and re.search(r"\b(allow_other|umask)\b", read["otherOpts"]):
        message = "allow_other and umask are options of ossfs 1.x"
        yield Finding("advice", "oss-ossfs1-options", "otherOpts", message, "remove them")
    if read["sigVersion"].lower() == "v4" and not read["region"]:
        message = "V4 signatures need a region; the driver guesses it from the node"
        fix = "set region, such as cn-hangzhou"
        yield Finding("warning", "oss-region", "sigVersion", message, fix)


def _authorization(read: Mapping[str, str]) -> Iterator[Finding]:
    auth = read["authType"].lower()
    role = read["roleName"] or read["ramRole"]
    arns = [bool(read["roleArn"]), bool(read["oidcProviderArn"])]
    fuse = read["fuseType"].lower() or "ossfs"
    if read["akId"] or read["akSecret"]:
        message = "everyone who can read the volume can read the keys"
        fix = "move the keys to a Secret, name it in nodePublishSecretRef, and replace the keys"
        yield Finding("error", "oss-inline-keys", "akId", message, fix)
    if fuse == "ossfs2" and auth not in _OSSFS2_AUTH:
        message = f"ossfs2 do not support authType: {auth}"
        yield _refused("oss-auth", "authType", message, "use a Secret, rrsa or sts")
    elif auth not in _OSSFS_AUTH:
        message = f"authType {auth!r} is unknown and treated as empty"
        yield Finding("warning", "oss-auth", "authType", message, "use rrsa, sts or public")
    if auth == "rrsa" and any(arns) and not all(arns):
        message = "use RRSA but one of the ARNs is empty"
        yield _refused("oss-auth", "roleArn", message, "give roleArn and oidcProviderArn, or none")
    if auth == "rrsa" and not role and not any(arns):
        fix = "set roleName"
        yield _refused("oss-auth", "roleName", "use RRSA but roleName is empty", fix)
    if auth == "sts" and not role:
        message = "without a role the driver takes the worker role of the node"
        yield Finding("warning", "oss-auth", "roleName", message, "set roleName")
    if read["assumeRoleArn"] and auth != "rrsa":
        message = "only support access OSS through STS AssumeRole when authType is RRSA"
        yield _refused("oss-auth", "assumeRoleArn", message, "set authType: rrsa")
    if auth == "csi-secret-store" and not read["secretProviderClass"]:
        message = "use CsiSecretStore but secretProviderClass is empty"
        yield _refused("oss-auth", "secretProviderClass", message, "set secretProviderClass")


def _refused(rule: str, key: str, message: str, fix: str) -> Finding:
    return Finding("error", rule, key, f"the driver refuses to mount: OSS {message}", fix)
