"""Knative's rules for volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.faults import (
    Fault,
    disallowed,
    invalid,
    missing,
    missing_one_of,
    multiple_one_of,
    via,
)
from qwenkit.admission.schema import names, quantities

Object = Mapping[str, Any]
_ALWAYS = ("secret", "configMap", "projected")
# source, its flag, how the refusal calls it; in the order in which Knative lists them
_BEHIND_A_FLAG = (
    ("emptyDir", "volumes-emptydir", "EmptyDir"),
    ("persistentVolumeClaim", "persistent-volume-claim", ""),
    ("hostPath", "volumes-hostpath", "HostPath"),
    ("csi", "volumes-csi", "CSI"),
    ("ephemeral", "volumes-ephemeral", "Ephemeral"),
    ("image", "volumes-image", "Image"),
)
_PROJECTIONS = ("secret", "configMap", "serviceAccountToken", "downwardAPI")


def volume_faults(
    volumes: Sequence[Object], mounted: Set[str], cluster: ClusterConfigMaps
) -> list[Fault]:
    """Check a pod's volumes; paths start at the list."""
    faults: list[Fault] = []
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        name = volume.get("name", "")
        own: list[Fault] = []
        if name in seen:
            own.append(Fault(f'duplicate volume name "{name}"', ("name",)))
        if name not in mounted:
            own.append(Fault(f'volume with name "{name}" not mounted', ("name",)))
        seen.add(name)
        faults += via(own + _volume(volume, cluster), f"[{index}]")
    return faults


def _volume(volume: Object, cluster: ClusterConfigMaps) -> list[Fault]:
    name = volume.get("name", "")
    faults = _claim(volume, cluster)
    for source, flag, called in _BEHIND_A_FLAG:
        if called and source in volume and not cluster.enabled(f"kubernetes.podspec-{flag}"):
            message = f"{called} volume support is disabled, but found {called} volume {name}"
            faults.append(Fault(message))
    if not name:
        faults = [missing("name")]  # Knative forgets what it found before
    elif names.dns_1123_label(name):
        faults = [invalid(name, "name")]
    wrong = sorted(
        source
        for source, flag, _ in _BEHIND_A_FLAG
        if source in volume and not cluster.permits(f"kubernetes.podspec-{flag}")
    )
    faults += [disallowed(*wrong)] if wrong else []
    return faults + _sources(volume) + _exactly_one(volume, cluster)


def _claim(volume: Object, cluster: ClusterConfigMaps) -> list[Fault]:
    claim = volume.get("persistentVolumeClaim")
    if claim is None:
        return []
    found = f"but found persistent volume claim {claim.get('claimName', '')}"
    faults = []
    if not cluster.enabled("kubernetes.podspec-persistent-volume-claim"):
        faults.append(Fault(f"Persistent volume claim support is disabled, {found}"))
    writable = cluster.enabled("kubernetes.podspec-persistent-volume-write")
    if not claim.get("readOnly") and not writable:
        message = f"Persistent volume write support is disabled, {found} that is not read-only"
        faults.append(Fault(message))
    return faults


def _exactly_one(volume: Object, cluster: ClusterConfigMaps) -> list[Fault]:
    known = (*_ALWAYS, *(source for source, _, _ in _BEHIND_A_FLAG))
    found = [source for source in known if source in volume]
    if len(found) > 1:
        return [multiple_one_of(*found)]
    if found:
        return []
    offered = [
        source
        for source, flag, _ in _BEHIND_A_FLAG
        if cluster.enabled(f"kubernetes.podspec-{flag}")
    ]
    return [missing_one_of(*_ALWAYS, *offered)]


def _sources(volume: Object) -> list[Fault]:
    faults: list[Fault] = []
    for source in ("secret", "configMap"):
        faults += _items(volume.get(source, {}))
    for index, projection in enumerate(volume.get("projected", {}).get("sources", [])):
        faults += via(_projection(projection), "projected", f"[{index}]")
    if "emptyDir" in volume:
        faults += via(_empty_dir(volume["emptyDir"]), "emptyDir")
    if "image" in volume:
        faults += via(_image(volume["image"]), "image")
    return faults


def _items(source: Object) -> list[Fault]:
    faults: list[Fault] = []
    for index, item in enumerate(source.get("items", [])):
        absent = [missing(name) for name in ("key", "path") if not item.get(name)]
        faults += via(absent, "items", f"[{index}]")
    return faults


def _projection(projection: Object) -> list[Fault]:
    faults: list[Fault] = []
    for source in ("secret", "configMap"):
        if source in projection:
            absent = [] if projection[source].get("name") else [missing("name")]
            faults += via(absent + _items(projection[source]), source)
    token = projection.get("serviceAccountToken")
    if token is not None and not token.get("path"):
        faults += via([missing("path")], "serviceAccountToken")
    for index, item in enumerate(projection.get("downwardAPI", {}).get("items", [])):
        faults += via(_downward(item), "downwardAPI", "items", f"[{index}]")
    found = [source for source in _PROJECTIONS if source in projection]
    if len(found) > 1:
        faults.append(multiple_one_of(*found))
    return faults if found else [*faults, missing_one_of(*_PROJECTIONS)]


def _downward(item: Object) -> list[Fault]:
    references = ("fieldRef", "resourceFieldRef")
    count = sum(reference in item for reference in references)
    faults = [] if count else [missing_one_of(*references)]
    if count == 2:
        faults.append(Fault("Within a single item, cannot set both", tuple(reversed(references))))
    return faults if item.get("path") else [*faults, missing("path")]


def _empty_dir(source: Object) -> list[Fault]:
    faults = []
    if source.get("medium", "") not in ("", "Memory"):
        faults.append(invalid(source["medium"], "medium"))
    if quantities.parse(source.get("sizeLimit", "0")) < 0:
        faults.append(invalid(source["sizeLimit"], "sizeLimit"))
    return faults


def _image(source: Object) -> list[Fault]:
    faults = [] if source.get("reference") else [missing("reference")]
    if source.get("pullPolicy", "") not in ("", "IfNotPresent", "Always", "Never"):
        faults.append(invalid(source["pullPolicy"], "pullPolicy"))
    return faults
