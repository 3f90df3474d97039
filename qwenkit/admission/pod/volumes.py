"""Knative's rules for volumes."""

from __future__ import annotations

from collections.abc import Sequence, Set

from qwenkit.admission.config_maps import PVC_FLAG, PVC_WRITE_FLAG, ClusterConfigMaps
from qwenkit.admission.faults import (
    Fault,
    Faults,
    Object,
    disallowed,
    invalid,
    missing,
    missing_one_of,
    multiple_one_of,
    via,
)
from qwenkit.admission.schema import names, quantities

_ALWAYS = ("secret", "configMap", "projected")
# Source, flag, its name in messages; in Knative's order.
_BEHIND_A_FLAG = (
    ("emptyDir", "volumes-emptydir", "EmptyDir"),
    ("persistentVolumeClaim", "persistent-volume-claim", ""),
    ("hostPath", "volumes-hostpath", "HostPath"),
    ("csi", "volumes-csi", "CSI"),
    ("ephemeral", "volumes-ephemeral", "Ephemeral"),
    ("image", "volumes-image", "Image"),
)
_PROJECTIONS = ("secret", "configMap", "serviceAccountToken", "downwardAPI")


def needed_flags(volume: Object) -> dict[str, str]:
    """Return the feature flags that a volume needs, to what needs each."""
    found = {f"kubernetes.podspec-{f}": s for s, f, _ in _BEHIND_A_FLAG if s in volume}
    if PVC_FLAG in found and not volume["persistentVolumeClaim"].get("readOnly"):
        found[PVC_WRITE_FLAG] = "a writable persistentVolumeClaim"
    return found


def volume_faults(
    volumes: Sequence[Object], mounted: Set[str], cluster: ClusterConfigMaps
) -> Faults:
    """Check a pod's volumes; paths start at the list."""
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        name = volume.get("name", "")
        own: list[Fault] = []
        if name in seen:
            own.append(Fault(f'duplicate volume name "{name}"', ("name",)))
        if name not in mounted:
            own.append(Fault(f'volume with name "{name}" not mounted', ("name",)))
        seen.add(name)
        yield from via([*own, *_volume(volume, cluster)], f"[{index}]")


def _volume(volume: Object, cluster: ClusterConfigMaps) -> Faults:
    name = volume.get("name", "")
    if not name:
        yield missing("name")
    elif names.dns_1123_label(name):
        yield invalid(name, "name")
    else:  # Knative keeps these faults only if the name is right
        yield from _disabled(volume, name, cluster)
    forbidden = sorted(
        source
        for source, flag, _ in _BEHIND_A_FLAG
        if source in volume and not cluster.permits(f"kubernetes.podspec-{flag}")
    )
    if forbidden:
        yield disallowed(*forbidden)
    yield from _sources(volume)
    yield from _exactly_one(volume, cluster)


def _disabled(volume: Object, name: str, cluster: ClusterConfigMaps) -> Faults:
    claim = volume.get("persistentVolumeClaim")
    if claim is not None:
        found = f"but found persistent volume claim {claim.get('claimName', '')}"
        if not cluster.enabled(PVC_FLAG):
            yield Fault(f"Persistent volume claim support is disabled, {found}")
        writable = cluster.enabled(PVC_WRITE_FLAG)
        if not claim.get("readOnly") and not writable:
            message = f"Persistent volume write support is disabled, {found} that is not read-only"
            yield Fault(message)
    for source, flag, shown in _BEHIND_A_FLAG:
        if shown and source in volume and not cluster.enabled(f"kubernetes.podspec-{flag}"):
            message = f"{shown} volume support is disabled, but found {shown} volume {name}"
            yield Fault(message)


def _exactly_one(volume: Object, cluster: ClusterConfigMaps) -> Faults:
    known = (*_ALWAYS, *(source for source, _, _ in _BEHIND_A_FLAG))
    found = [source for source in known if source in volume]
    if len(found) > 1:
        yield multiple_one_of(*found)
    elif not found:
        offered = [
            source
            for source, flag, _ in _BEHIND_A_FLAG
            if cluster.enabled(f"kubernetes.podspec-{flag}")
        ]
        yield missing_one_of(*_ALWAYS, *offered)


def _sources(volume: Object) -> Faults:
    for source in ("secret", "configMap"):
        yield from _items(volume.get(source, {}))
    for index, projection in enumerate(volume.get("projected", {}).get("sources", [])):
        yield from via(_projection(projection), "projected", f"[{index}]")
    if "emptyDir" in volume:
        yield from via(_empty_dir(volume["emptyDir"]), "emptyDir")
    if "image" in volume:
        yield from via(_image(volume["image"]), "image")


def _items(source: Object) -> Faults:
    for index, item in enumerate(source.get("items", [])):
        absent = [missing(name) for name in ("key", "path") if not item.get(name)]
        yield from via(absent, "items", f"[{index}]")


def _projection(projection: Object) -> Faults:
    for source in ("secret", "configMap"):
        if source in projection:
            if not projection[source].get("name"):
                yield missing(f"{source}.name")
            yield from via(_items(projection[source]), source)
    token = projection.get("serviceAccountToken")
    if token is not None and not token.get("path"):
        yield missing("serviceAccountToken.path")
    for index, item in enumerate(projection.get("downwardAPI", {}).get("items", [])):
        yield from via(_downward(item), "downwardAPI", "items", f"[{index}]")
    found = [source for source in _PROJECTIONS if source in projection]
    if len(found) > 1:
        yield multiple_one_of(*found)
    elif not found:
        yield missing_one_of(*_PROJECTIONS)


def _downward(item: Object) -> Faults:
    references = ("fieldRef", "resourceFieldRef")
    count = sum(reference in item for reference in references)
    if count == 0:
        yield missing_one_of(*references)
    if count == 2:
        yield Fault("Within a single item, cannot set both", tuple(reversed(references)))
    if not item.get("path"):
        yield missing("path")


def _empty_dir(source: Object) -> Faults:
    if source.get("medium", "") not in ("", "Memory"):
        yield invalid(source["medium"], "medium")
    if quantities.parse(source.get("sizeLimit", "0")) < 0:
        yield invalid(source["sizeLimit"], "sizeLimit")


def _image(source: Object) -> Faults:
    if not source.get("reference"):
        yield missing("reference")
    if source.get("pullPolicy", "") not in ("", "IfNotPresent", "Always", "Never"):
        yield invalid(source["pullPolicy"], "pullPolicy")
