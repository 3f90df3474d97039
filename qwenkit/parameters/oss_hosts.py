"""What the names of OSS endpoints say: a region, where one is in them, and a bucket."""

from __future__ import annotations

import re

from qwenkit.errors import InvalidValue

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
_CITIES = (
    "hangzhou|shanghai|nanjing|fuzhou|wuhan|qingdao|beijing|zhangjiakou|huhehaote|wulanchabu|"
    "shenzhen|heyuan|guangzhou|chengdu|zhongwei|hongkong"
)
_ABROAD = {
    "singapore": "ap-southeast-1", "kualalumpur": "ap-southeast-3", "jakarta": "ap-southeast-5",
    "manila": "ap-southeast-6", "bangkok": "ap-southeast-7", "tokyo": "ap-northeast-1",
    "seoul": "ap-northeast-2", "frankfurt": "eu-central-1", "london": "eu-west-1",
    "virginia": "us-east-1", "siliconvalley": "us-west-1", "dubai": "me-east-1",
}  # fmt: skip


def region_of(endpoint: str) -> str:
    """Return the region in the name of an OSS endpoint, public or internal; "" if none is there.

    ``oss-accelerate`` endpoints, custom domains and ``oss.aliyuncs.com`` name none.
    """
    found = _HOST.fullmatch(_host(endpoint))
    if not found:
        return ""
    name = (found[2] or found[3] or found[4]).removesuffix("-pub")
    return _REGION_OF_NAME.get(re.sub("-[a-z]$", "", name), name)


def is_alibaba(endpoint: str) -> bool:
    """Return whether a host is one of Alibaba Cloud's, and no custom domain of a bucket."""
    return _host(endpoint).rstrip(".").endswith(".aliyuncs.com")


def without_bucket(endpoint: str, bucket: str) -> str:
    """Return an endpoint of OSS's own interface, without the bucket that clients put before it.

    Raises:
        InvalidValue: another bucket is before it.
    """
    if not is_alibaba(endpoint):
        return endpoint
    found = re.sub(rf"^(https?://)?({re.escape(bucket)}\.)?(s3\.)?", r"\1", endpoint, flags=re.I)
    if other := re.fullmatch(
        rf"([a-z0-9-]+)\.((oss-[a-z0-9-]+|{_ID}\.oss)\.aliyuncs\.com)", _host(found)
    ):
        why = f"begins with another bucket, {other[1]}, and OSS_BUCKET is {bucket}"
        raise InvalidValue("oss_endpoint", endpoint, why, f"export OSS_ENDPOINT={other[2]}")
    return found


def region(value: str) -> str:
    """Of the region of a bucket; returned without what makes an endpoint or a zone of it."""
    name = value.strip().lower().replace("_", "-")
    name = region_of(name) or re.sub(r"^oss-|-internal$", "", name)
    name = re.sub(r"(?<=-\d)[a-z]$|(?<=.{4})-[a-z]$", "", name)
    if name and not re.fullmatch(_ID, name):
        city = re.sub("[^a-z]", "", name)
        maybe = _ABROAD.get(city) or f"cn-{city if re.fullmatch(_CITIES, city) else 'hangzhou'}"
        raise ValueError(f"must be a region's id, such as {maybe}: without oss- and -internal")
    return name


def _host(endpoint: str) -> str:
    address = re.sub(r"^https?://", "", endpoint.strip().lower())
    return address.partition("/")[0].partition(":")[0]
