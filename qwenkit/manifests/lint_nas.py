"""Check the ``volumeAttributes`` of a NAS volume by the driver's own rules.

Source: pkg/nas/nodeserver.go of kubernetes-sigs/alibaba-cloud-csi-driver (August 2026).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qwenkit.capacity.finding import Finding
from qwenkit.manifests.lint_oss import unknown_attributes

# fmt: off
_KEYS = (
    "server", "path", "vers", "options", "mode", "modeType", "accesspoint", "fileSystemType",
    "useClient", "mountType", "loopLock", "loopImageSize", "containerNetworkFileSystem",
    "mountProtocol", "authType", "sandboxId", "sandboxCredProviderName", "credentialProviderName",
    "sysConfig",
)
# fmt: on
_ELSEWHERE = ("accesspoint", "containernetworkfilesystem")


def nas_findings(attributes: Mapping[str, object]) -> Iterator[Finding]:
    """Examine the attributes of one volume, read as the driver reads them; ``where`` is a key."""
    read = {str(key).lower(): str(value).strip() for key, value in attributes.items()}
    yield from unknown_attributes(attributes, _KEYS, "nas-unknown-attribute")
    server, path = read.get("server", ""), read.get("path", "") or "/"
    if not server and not any(read.get(key) for key in _ELSEWHERE):
        message, fix = "no mount target", "set nas_server, such as ID.REGION.nas.aliyuncs.com"
        yield _refused("nas-server", "server", message, fix)
    if ":" in server and not (server.startswith("[") and server.endswith("]")):
        message = "invalid server address: mount path must be specified in the 'path' field"
        yield _refused("nas-server", "server", message, f"write {server.partition(':')[0]}")
    if not path.startswith("/"):
        yield _refused("nas-path", "path", "the path format is illegal", f"write /{path}")
    if path == "/" and read.get("mode"):
        message = f"NAS: root directory cannot set mode: {read['mode']}"
        yield _refused("nas-mode", "mode", message, "remove it, or mount a folder")
    if ".extreme.nas." in server and read.get("vers", "") not in ("", "3", "3.0"):
        message = f"Extreme nas only support nfs v3 {server}"
        yield _refused("nas-version", "vers", message, 'write vers: "3"')


def _refused(rule: str, key: str, message: str, fix: str) -> Finding:
    return Finding("error", rule, key, f"the driver refuses to mount: {message}", fix)
