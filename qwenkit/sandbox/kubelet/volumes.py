"""What do a pod's containers see in a volume: claim → volume → bucket, NAS or folder?

The checks and their messages are those of the kubelet and of the CSI drivers. A NAS is a folder
of the sandbox; with RRSA every role is trusted by the sandbox's own OSS, and by no other.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

from qwenkit.errors import NotReady, QwenkitError
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.controllers.object_fields import annotations_of
from qwenkit.sandbox.controllers.seed import NAS_DRIVER, OSS_DRIVER
from qwenkit.sandbox.controllers.workloads.volume_provisioning import LOCAL_PATH, PROVISIONED_BY
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kubelet.local_folder import LocalFolder
from qwenkit.sandbox.kubelet.mounted_folder import MountedFolder, is_local


@dataclass(frozen=True)
class Backing:
    """What is behind the volumes that need no keys: a folder, and the sandbox's own OSS."""

    folder: Path
    keys: tuple[str, str]
    oss: Callable[[], str]


@dataclass(frozen=True)
class Mount:
    """One volume of a container at a path."""

    path: str
    folder: MountedFolder | LocalFolder
    read_only: bool = False


async def mount(
    store: ObjectStore,
    pod: Object,
    clock: Clock,
    *,
    ready_at: float,
    timeout_s: float,
    backing: Backing | None = None,
) -> dict[str, MountedFolder | LocalFolder]:
    """Mount the pod's volumes; return their folders by the volumes' names in the pod.

    Args:
        store: the cluster's objects.
        pod: the pod.
        clock: the node's.
        ready_at: its time at which the driver is ready.
        timeout_s: how long the kubelet waits for the driver.
        backing: what is behind the volumes that need no keys.

    Raises:
        NotReady: one cannot be mounted; ``what`` is the FailedMount event's message.
    """
    mounted: dict[str, MountedFolder | LocalFolder] = {}
    namespace = pod["metadata"]["namespace"]
    for volume in pod["spec"].get("volumes", []):
        if claim := at(volume, "persistentVolumeClaim", "claimName"):
            node = at(pod, "spec", "nodeName") or ""
            found = _claimed(store, namespace, volume["name"], claim)
            volume_name = found["metadata"]["name"]
            folder = _folder(store, found, node, backing)
            if isinstance(folder, LocalFolder) and volume["persistentVolumeClaim"].get("readOnly"):
                folder = replace(folder, read_only=True)
            left = ready_at - clock.now()
            await clock.sleep(min(left, timeout_s))
            if left > timeout_s:
                _fail(volume_name, _rpc("DeadlineExceeded", "context deadline exceeded"))
            await _try(folder, volume_name)
            mounted[volume["name"]] = folder
        for kind, field in (("Secret", "secretName"), ("ConfigMap", "name")):
            source = volume.get(kind[0].lower() + kind[1:]) or {}
            wanted = source.get(field)
            if wanted and not source.get("optional") and not store.find(kind, namespace, wanted):
                _fail(volume["name"], f'{kind.lower()} "{wanted}" not found')
    return mounted


def mounts(
    container: Mapping[str, Any], mounted: Mapping[str, MountedFolder | LocalFolder]
) -> list[Mount]:
    """Return what a container sees of the mounted volumes, the deepest path first."""
    found = []
    for one in container.get("volumeMounts", []):
        folder = mounted.get(one["name"])
        if folder is not None:
            inner = one.get("subPath", "").strip("/")
            inside = replace(folder, prefix=folder.prefix + (f"{inner}/" if inner else ""))
            where, read_only = one["mountPath"].rstrip("/") or "/", bool(one.get("readOnly"))
            found.append(Mount(where, inside, read_only))
    return sorted(found, key=lambda one: -len(one.path))


def containing(mounts: Sequence[Mount], folder: str) -> Mount | None:
    """Return the mount that holds a path of the container, the deepest first; None if none."""
    for mount in mounts:
        if folder == mount.path or folder.startswith(f"{mount.path.rstrip('/')}/"):
            return mount
    return None


def _claimed(store: ObjectStore, namespace: str, name: str, claim_name: str) -> Object:
    """Return the volume that a claim is bound to."""
    claim = store.find("PersistentVolumeClaim", namespace, claim_name)
    if claim is None:
        _fail(name, f'persistentvolumeclaim "{claim_name}" not found')
    volume_name = at(claim, "spec", "volumeName") or ""
    volume = store.find("PersistentVolume", None, volume_name) if volume_name else None
    if volume is None or at(claim, "status", "phase") not in ("Bound", None):
        _fail(name, f'PVC "{namespace}/{claim_name}" is not bound')
    return volume


async def _try(folder: MountedFolder | LocalFolder, volume_name: str) -> None:
    """List the folder, as the driver does first."""
    try:
        await folder.list()
    except QwenkitError as error:
        # The client's message, without the rest of the error, which may hold a key.
        why = f"{error.what}: {error.why}" if error.why else error.what
        _fail(volume_name, _rpc("Internal", f"failed to mount oss bucket: {why}"))


def _folder(
    store: ObjectStore, volume: Object, node: str, backing: Backing | None
) -> MountedFolder | LocalFolder:
    name = volume["metadata"]["name"]
    csi = volume["spec"].get("csi")
    if backing and annotations_of(volume).get(PROVISIONED_BY) == LOCAL_PATH:
        return LocalFolder(backing.folder / name)
    if csi is None:
        source = next((key for key in volume["spec"] if key in ("nfs", "hostPath", "local")), "?")
        known = f"{OSS_DRIVER}, {NAS_DRIVER} and those of the class {LOCAL_PATH}"
        _fail(name, f"the sandbox's node mounts volumes of {known} only, not {source}")
    if csi.get("driver") not in (OSS_DRIVER, NAS_DRIVER) or not _registered(store, node):
        _fail(
            name,
            "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name "
            f"{csi.get('driver')} not found in the list of registered CSI drivers",
        )
    given = csi.get("volumeAttributes") or {}
    attributes = {key.strip().lower(): value.strip() for key, value in given.items()}
    if csi["driver"] == NAS_DRIVER:
        return _nas(name, attributes, backing)
    kind = (attributes.get("fusetype") or csi.get("fsType") or "ossfs").lower()
    keys = _keys(store, name, csi)
    endpoint = _endpoint(name, kind, attributes)
    if attributes.get("authtype", "").lower() == "rrsa":
        keys = _of_role(name, attributes, endpoint, backing)
    if len(keys) != 2:
        why = f"OSS authorization error: {kind}: missing access key in node publish secret"
        _fail(name, _rpc("InvalidArgument", why))
    path = attributes.get("path", "/").strip("/")
    return MountedFolder(endpoint, attributes["bucket"], f"{path}/" if path else "", *keys)


def _nas(name: str, attributes: Mapping[str, str], backing: Backing | None) -> LocalFolder:
    server, path = attributes.get("server", ""), attributes.get("path", "") or "/"
    if not server or ":" in server:
        _fail(name, "invalid server address: mount path must be specified in the 'path' field")
    if not path.startswith("/") or ".." in path.split("/"):
        _fail(name, "the path format is illegal")
    if path == "/" and attributes.get("mode"):
        _fail(name, f"NAS: root directory cannot set mode: {attributes['mode']}")
    if backing is None:
        _fail(name, _rpc("InvalidArgument", f"cannot connect to nas host {server}"))
    whole = LocalFolder(backing.folder / f"nas-{sha256(server.encode()).hexdigest()[:16]}")
    return LocalFolder(whole.path(path))


def _of_role(
    name: str, attributes: Mapping[str, str], endpoint: str, backing: Backing | None
) -> list[str]:
    """Return the keys that the sandbox's OSS gives to a role."""
    if not attributes.get("rolename") and not attributes.get("ramrole"):
        _fail(name, _rpc("InvalidArgument", "use RRSA but roleName is empty"))
    if backing is None or endpoint != backing.oss():
        why = "only the sandbox's own OSS (OSS_ENDPOINT of `qwenkit sandbox env`) trusts its roles"
        _fail(name, _rpc("Internal", f"AssumeRoleWithOIDC failed for {endpoint}: {why}"))
    return list(backing.keys)


def _registered(store: ObjectStore, node: str) -> bool:
    """Return whether the node has ACK's drivers; one without a CSINode has them."""
    found = store.find("CSINode", None, node)
    drivers = (at(found, "spec", "drivers") or []) if found else [{"name": OSS_DRIVER}]
    return any(driver["name"] == OSS_DRIVER for driver in drivers)


def _endpoint(name: str, kind: str, attributes: Mapping[str, str]) -> str:
    bucket, url = attributes.get("bucket", ""), attributes.get("url", "")
    path, auth = attributes.get("path", "/"), attributes.get("authtype", "")
    bare = url.partition("://")[2] or url
    problem = ""
    if not bucket or not url:
        problem = "OSS parameters error: Url/Bucket empty"
    elif kind not in ("ossfs", "ossfs2"):
        problem = f"OSS parameters error: Unsupported fuseType {kind}"
    elif len(bare.split(".")) >= 4 and bare.startswith(f"{bucket}."):
        problem = (
            f"OSS url error: url is invalid, {url} is a bucket domain name, "
            "please use endpoint instead"
        )
    # The driver checks this for ossfs only.
    elif kind == "ossfs" and path and not path.startswith("/"):
        problem = f"OSS path error: start with {path}, should start with /"
    elif auth.lower() not in ("", "rrsa"):
        problem = f"the sandbox's node knows no authType {auth}: it needs keys in a Secret, or rrsa"
    if problem:
        _fail(name, _rpc("InvalidArgument", problem))
    scheme = "" if "://" in url else "http://" if _plain(bare) else "https://"
    endpoint = f"{scheme}{url}".rstrip("/")
    if not is_local(endpoint):
        why = "the sandbox reaches only its own OSS server (OSS_ENDPOINT of `qwenkit sandbox env`)"
        host = re.split("[/?#]", endpoint.partition("://")[2])[0].rpartition("@")[2]
        _fail(name, _rpc("Internal", f"dial tcp: lookup {host}: no such host: {why}"))
    return endpoint


def _plain(host: str) -> bool:
    return host.endswith("-internal.aliyuncs.com") or is_local(f"http://{host.rstrip('/')}")


def _keys(store: ObjectStore, name: str, csi: Mapping[str, Any]) -> list[str]:
    """Return the key pair of the volume's Secret, or fewer than two values if one is missing."""
    reference = csi.get("nodePublishSecretRef")
    if not reference:
        return []
    space, secret_name = reference.get("namespace", "default"), reference["name"]
    secret = store.find("Secret", space, secret_name)
    if secret is None:
        _fail(
            name,
            f"fetching NodePublishSecretRef {space}/{secret_name} failed: kubernetes.io/csi: "
            f"failed to find the secret {secret_name} in the namespace {space} with error: "
            f'secrets "{secret_name}" not found',
        )
    data = secret.get("data") or {}
    # Either of the exact names takes precedence over the standard ones, as in the driver.
    if data.get("akId") or data.get("akSecret"):
        wanted = [data.get("akId"), data.get("akSecret")]
    else:
        lower = {key.lower(): value for key, value in data.items()}
        wanted = [lower.get("accesskeyid"), lower.get("accesskeysecret")]
    return [_decoded(value) for value in wanted if value and _decoded(value)]


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _rpc(code: str, why: str) -> str:
    return f"rpc error: code = {code} desc = {why}"


def _fail(volume: str, why: str) -> NoReturn:
    raise NotReady(f'MountVolume.SetUp failed for volume "{volume}" : {why}')
