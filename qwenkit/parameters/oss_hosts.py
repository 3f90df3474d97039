"""What the names of OSS endpoints say: a region, where one is in them, and a bucket."""

from __future__ import annotations

import re

_ID = r"(?:cn|ap|us|eu|me|na|sa|af)-[a-z0-9]+(?:-[a-z0-9]+)*?"
# oss-ID(-internal), s3.oss-ID, access points; the same with IPv4 and IPv6: ID(-internal).oss;
# private links.
_HOST = re.compile(
    rf"(?:[a-z0-9-]+\.)*?((?:vpc100-)?oss-({_ID})(?:-internal)?(?:\.oss-[a-z-]+)?"
    rf"|({_ID})(?:-internal)?\.oss(?:-[a-z-]+)?|[a-z0-9-]+\.oss\.({_ID})\.privatelink)"
    r"\.aliyuncs\.com\.?"
)
# Finance regions have hosts of other names: https://help.aliyun.com/zh/oss/regions-and-endpoints
_REGION_OF_NAME = {
    "cn-hzfinance": "cn-hangzhou-finance",
    "cn-hzjbp": "cn-hangzhou-finance",
    "cn-szfinance": "cn-shenzhen-finance-1",
}


def region_of(endpoint: str) -> str:
    """Return the region in the name of an OSS endpoint, public or internal; "" if none is there.

    ``oss-accelerate`` endpoints, custom domains and ``oss.aliyuncs.com`` name none.
    """
    host = re.sub("^https?://", "", endpoint.strip().lower()).partition("/")[0].partition(":")[0]
    if not (found := _HOST.fullmatch(host)):
        return ""
    name = (found[2] or found[3] or found[4]).removesuffix("-pub")
    return _REGION_OF_NAME.get(re.sub("-[a-z]$", "", name), name)


def internal_of(endpoint: str) -> str:
    """Return the endpoint for nodes in the region of a public one; a pattern if it names none."""
    if not region_of(endpoint):
        return "oss-REGION-internal.aliyuncs.com"
    host = re.sub("^https?://|-internal|/$", "", endpoint)
    return re.sub(r"((?:\.oss)?\.aliyuncs\.com)", r"-internal\1", host)


def without_bucket(endpoint: str, bucket: str) -> str:
    """Return an endpoint of OSS's own interface, without the bucket: clients put it there."""
    ours = rf"^(https?://)?({re.escape(bucket)}\.)?(s3\.)?(?=[a-z0-9.-]+\.aliyuncs\.com)"
    return re.sub(ours, r"\1", endpoint, flags=re.IGNORECASE)


def region(value: str) -> str:
    """Of the region of a bucket; returned without what makes an endpoint or a zone of it."""
    name = value.strip().lower().replace("_", "-")
    name = region_of(name) or re.sub(r"^oss-|-internal$", "", name)
    name = re.sub(r"(?<=-\d)[a-z]$|(?<=.{4})-[a-z]$", "", name)
    if name and not re.fullmatch(_ID, name):
        ids = "cn-beijing, cn-hangzhou, cn-shanghai, cn-shenzhen or ap-southeast-1 (Singapore)"
        raise ValueError(f"must be a region's id, such as {ids}: without oss- and -internal")
    return name
