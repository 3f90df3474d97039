"""Check Secrets, static OSS and NAS volumes and their claims, alone and together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from qwenkit.admission.schema import quantities
from qwenkit.capacity.finding import Finding, Level
from qwenkit.manifests.documents import Doc, at, place, rows, table
from qwenkit.manifests.lint_nas import nas_findings
from qwenkit.manifests.lint_oss import attribute_findings

DRIVER = "ossplugin.csi.alibabacloud.com"
_EXAMINE = {DRIVER: attribute_findings, "nasplugin.csi.alibabacloud.com": nas_findings}
_CLASS = "spec.storageClassName"


def findings(docs: list[Doc]) -> list[Finding]:
    """Examine the storage objects among ``docs``, alone and against one another."""
    volumes = _of(docs, "PersistentVolume")
    claims = _of(docs, "PersistentVolumeClaim")
    found: list[Finding] = []
    for volume in volumes:
        found += _volume(volume)
        found += _secret_reference(volume, _of(docs, "Secret"))
    found += _shared_handles(volumes)
    for claim in claims:
        found += _claim(claim)
        for volume in volumes:
            if at(claim, "spec", "volumeName") == at(volume, "metadata", "name"):
                found += _binding(volume, claim)
    for secret in _of(docs, "Secret"):
        found += _secret(secret)
    for service in _of(docs, "Service"):
        found += _claims_of(service, claims)
    return found


def fuse_client(docs: list[Doc]) -> str:
    """Return the client that mounts the volumes, if all are OSS's and have the same; else ""."""
    volumes = [at(doc, "spec", "csi") for doc in _of(docs, "PersistentVolume")]
    types = {str(at(csi, "volumeAttributes", "fuseType") or "ossfs").lower() for csi in volumes}
    ours = len(types) == 1 and all(at(csi, "driver") == DRIVER for csi in volumes)
    return types.pop() if ours and types <= {"ossfs", "ossfs2"} else ""


def _of(docs: list[Doc], kind: str) -> list[Doc]:
    return [doc for doc in docs if doc.get("kind") == kind]


def _volume(doc: Doc) -> Iterator[Finding]:
    csi = at(doc, "spec", "csi")
    examine = _EXAMINE.get(str(at(csi, "driver")))
    if examine is None:
        return
    for finding in examine(table(csi, "volumeAttributes")):
        path = f"spec.csi.volumeAttributes.{finding.where}".rstrip(".")
        yield replace(finding, where=place(doc, path))
    name, handle = at(doc, "metadata", "name"), at(csi, "volumeHandle")
    if handle != name:
        message = f"volumeHandle {handle!r} differs from the volume's name {name!r}"
        fix = "use the volume's name: two volumes with one handle share one mount"
        yield Finding("warning", "pv-handle", place(doc, "spec.csi.volumeHandle"), message, fix)
    yield from _volume_policy(doc)


def _volume_policy(doc: Doc) -> Iterator[Finding]:
    policy = at(doc, "spec", "persistentVolumeReclaimPolicy")
    if policy != "Retain":
        where = place(doc, "spec.persistentVolumeReclaimPolicy")
        message = f"the reclaim policy is {policy or 'not set'}; the driver never deletes objects"
        yield Finding(
            "warning", "pv-reclaim", where, message, "write Retain: objects are never deleted"
        )
    of_oss = at(doc, "spec", "csi", "driver") == DRIVER  # a NAS is written by the Job
    if of_oss and at(doc, "spec", "accessModes") != ["ReadOnlyMany"]:
        where = place(doc, "spec.accessModes")
        message = "only ReadOnlyMany makes the driver mount read-only"
        fix = "use ReadOnlyMany: servers have no reason to change weights"
        yield Finding("warning", "pv-writable", where, message, fix)
    if at(doc, "spec", "claimRef") is None:
        message = "any matching claim may bind this volume"
        fix = "name the claim and its namespace in claimRef"
        yield Finding("advice", "pv-claim-ref", place(doc, "spec.claimRef"), message, fix)
    attributes = table(doc, "spec", "csi", "volumeAttributes")
    if at(doc, "spec", "mountOptions") and attributes.get("fuseType") == "ossfs2":
        where = place(doc, "spec.mountOptions")
        message = "ossfs2 ignores mountOptions"
        yield Finding("warning", "oss-mount-options", where, message, "use otherOpts")


def _secret_reference(volume: Doc, secrets: list[Doc]) -> Iterator[Finding]:
    csi = at(volume, "spec", "csi")
    if at(csi, "driver") != DRIVER:
        return
    where = place(volume, "spec.csi.nodePublishSecretRef")
    reference, attributes = table(csi, "nodePublishSecretRef"), table(csi, "volumeAttributes")
    if not reference and not attributes.get("authType") and not attributes.get("secretRef"):
        message = "neither a Secret nor an authType gives the nodes access to the bucket"
        fix = "name a Secret with akId and akSecret, or use authType: rrsa with a roleName"
        yield Finding("warning", "secret-reference", where, message, fix)
    if reference and attributes.get("secretRef"):
        message = "the driver refuses to mount: AK and secretRef cannot be set at the same time"
        fix = "keep one of nodePublishSecretRef and secretRef"
        yield Finding("error", "secret-reference", where, message, fix)
    ours = [doc for doc in secrets if at(doc, "type") in (None, "Opaque")]
    known = [(at(doc, "metadata", "name"), _namespace(doc)) for doc in ours]
    if reference and known:
        wanted = (reference.get("name"), reference.get("namespace") or "")
        if wanted not in known:
            message = f"no Secret {wanted[1]}/{wanted[0]} is among these documents"
            fix = f"name {' or '.join(f'{space}/{name}' for name, space in known)}"
            yield Finding("warning", "secret-reference", where, message, fix)


def _secret(doc: Doc) -> Iterator[Finding]:
    keys = {*table(doc, "stringData"), *table(doc, "data")}
    if len(keys & {"akId", "akSecret"}) == 1:
        message = "only one of akId and akSecret is there; the driver then uses neither"
        fix = "set both, with this spelling"
        yield Finding("error", "secret-keys", place(doc, "stringData"), message, fix)
    elif keys and not keys & {"akId", "akSecret"}:
        lower = {key.lower() for key in keys}
        if {"akid", "aksecret"} <= lower:
            message = f"{', '.join(sorted(keys))}: the driver is case-sensitive"
            fix = "spell them akId and akSecret"
            yield Finding("error", "secret-keys", place(doc, "stringData"), message, fix)


def _shared_handles(volumes: list[Doc]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for doc in volumes:
        handle, driver = (at(doc, "spec", "csi", key) for key in ("volumeHandle", "driver"))
        owner = first.setdefault(f"{driver} {handle}", place(doc))
        if handle is not None and owner != place(doc):
            message = f"{owner} has the volumeHandle {handle!r} too; both would share one mount"
            fix = "use each volume's own name"
            where = place(doc, "spec.csi.volumeHandle")
            yield Finding("error", "pv-handle-shared", where, message, fix)


def _claim(doc: Doc) -> Iterator[Finding]:
    # Without a volume's name, a class provisions one, as it is meant to.
    name, given = at(doc, "spec", "volumeName"), at(doc, "spec", "storageClassName")
    if name and given is None:
        message = "the claim names a volume, and leaves its class to the cluster's default"
        fix = 'write storageClassName: "", or a default class provisions a disk'
        yield Finding("warning", "pvc-class", place(doc, _CLASS), message, fix)
    if not name and given == "" and not at(doc, "spec", "selector"):
        message = "the claim names no volume"
        fix = "name the volume in volumeName"
        yield Finding("warning", "pvc-volume", place(doc, "spec.volumeName"), message, fix)


def _binding(volume: Doc, claim: Doc) -> Iterator[Finding]:
    def never(path: str, message: str, fix: str, rule: str, level: Level = "error") -> Finding:
        return Finding(level, rule, place(claim, path), f"{message}: they cannot bind", fix)

    offered, wanted = (set(map(str, rows(doc, "spec", "accessModes"))) for doc in (volume, claim))
    if not wanted <= offered:
        message = f"the claim wants {sorted(wanted)}, the volume offers {sorted(offered)}"
        yield never("spec.accessModes", message, "give both ReadOnlyMany", "pvc-access-modes")
    size = _size(at(claim, "spec", "resources", "requests", "storage"))
    capacity = _size(at(volume, "spec", "capacity", "storage"))
    if size > capacity:
        message = "the claim asks for more storage than the volume's capacity"
        fix = "give both the same size; it limits nothing"
        yield never("spec.resources.requests.storage", message, fix, "pvc-size")
    classes = [at(doc, "spec", "storageClassName") or "" for doc in (volume, claim)]
    if classes[0] != classes[1]:
        message = f"storage classes differ: volume {classes[0]!r}, claim {classes[1]!r}"
        yield never(_CLASS, message, 'write storageClassName: "" in both', "pvc-class-differs")
    held = table(volume, "spec", "claimRef")
    name, space = at(claim, "metadata", "name"), _namespace(claim)
    if held and (held.get("name"), held.get("namespace")) != (name, space):
        message = f"the volume is held for {held.get('namespace')}/{held.get('name')}"
        yield never("metadata", message, f"set claimRef to {space}/{name}", "pv-claim-ref-differs")


def _claims_of(service: Doc, claims: list[Doc]) -> Iterator[Finding]:
    known = [(at(doc, "metadata", "name"), _namespace(doc)) for doc in claims]
    for index, volume in enumerate(rows(service, "spec", "template", "spec", "volumes")):
        name = at(volume, "persistentVolumeClaim", "claimName")
        if name and known and (name, _namespace(service)) not in known:
            where = place(service, f"spec.template.spec.volumes[{index}]")
            message = f"no claim {_namespace(service)}/{name} is among these documents"
            close = get_close_matches(str(name), [str(each) for each, _ in known], n=1, cutoff=0)
            fix = f"a pod can only use a claim of its own namespace; is it {close[0]}?"
            yield Finding("warning", "pvc-missing", where, message, fix)


def _namespace(doc: Doc) -> str:
    return at(doc, "metadata", "namespace") or "default"


def _size(value: Any) -> Any:
    try:
        return quantities.parse(str(value))
    except ValueError:
        return 0
