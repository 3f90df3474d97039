"""Answers of a bucket with versioning, which the sandbox's OSS does not have."""

from __future__ import annotations

from aiohttp import web
from transfer_world import Handler, World

VERSION = "<Version><Key>models%2Fqwen%2F{}</Key><VersionId>{}</VersionId><IsLatest>{}</IsLatest>"
VERSION += "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>E</ETag><Size>1000</Size>"
VERSION += "<Owner><ID>1</ID><DisplayName>1</DisplayName></Owner><Type>Normal</Type>"
VERSION += "<StorageClass>Standard</StorageClass></Version>"


def versions(place: World, status: int = 200, state: str = "Enabled") -> None:
    """Let the bucket have versioning: two pages, with two old versions and a current one."""
    body = f"<VersioningConfiguration><Status>{state}</Status></VersioningConfiguration>"

    async def configuration(request: web.Request, handler: Handler) -> web.StreamResponse:
        return web.Response(status=status, text=body)

    async def pages(request: web.Request, handler: Handler) -> web.StreamResponse:
        assert request.query["prefix"] == "models/qwen/"
        if not request.query["key-marker"]:
            more = "<IsTruncated>true</IsTruncated><NextKeyMarker>models%2Fqwen%2Fa"
            more += "</NextKeyMarker><NextVersionIdMarker>2</NextVersionIdMarker>"
            found = VERSION.format("a", 3, "true") + VERSION.format("a", 2, "false")
        else:
            assert request.query["version-id-marker"] == "2"
            more = "<IsTruncated>false</IsTruncated>"
            found = VERSION.format("a", 1, "false")
        head = "<Name>weights</Name><Prefix>models%2Fqwen%2F</Prefix><MaxKeys>1000</MaxKeys>"
        head += "<KeyMarker/><VersionIdMarker/><Delimiter/><EncodingType>url</EncodingType>"
        text = f"<ListVersionsResult>{head}{more}{found}</ListVersionsResult>"
        return web.Response(text=text)

    place.faults.add(lambda request: "versioning" in request.query, configuration)
    place.faults.add(lambda request: "versions" in request.query, pages)
