"""What this Service needs of the cluster beyond nodes: flags, timeouts, storage, names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.feature_flags import enable_command
from qwenkit.admission.pod.spec import needed_flags
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    CSI_DRIVER,
    CSI_NODE,
    DAEMON_SET,
    RUNTIME_CLASS,
    SECRET,
    STORAGE_CLASS,
    Kind,
    Obj,
    annotations_of,
    name_of,
)
from qwenkit.cluster.preflight.check import Check, fail, not_applicable, numbers, ok, unknown
from qwenkit.settings import Settings

_DRIVERS = {"oss": "ossplugin.csi.alibabacloud.com", "nas": "nasplugin.csi.alibabacloud.com"}
_RRSA_SINCE = {"ossfs": "1.30.4", "ossfs2": "1.33.1"}
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"

REFERRED: Mapping[str, tuple[Kind, str]] = {
    "image_pull_secret": (
        SECRET,
        "kubectl create secret docker-registry {} -n {} --docker-server=HOST …",
    ),
    "api_key_secret": (SECRET, "kubectl create secret generic {} -n {} --from-literal=api-key=…"),
    "runtime_class": (RUNTIME_CLASS, "kubectl get runtimeclasses; GPU operators install them"),
}


def features(cluster: Cluster, spec: Obj) -> list[Check]:
    """Check the flags of Knative that the pod's spec needs: those of claims, and the others."""
    maps, needed = ClusterConfigMaps(cluster.knative_config("features")), needed_flags(spec)
    claims = {flag: field for flag, field in needed.items() if "persistent-volume" in flag}
    others = {flag: field for flag, field in needed.items() if flag not in claims}
    return [_flags("pvc-flag", maps, claims), _flags("feature-flags", maps, others)]


def _flags(name: str, maps: ClusterConfigMaps, needed: Mapping[str, str]) -> Check:
    # Knative takes "allowed" for fields of the pod, but not for its volumes.
    missing = [f for f in needed if not (maps.enabled(f) if "volume" in f else maps.permits(f))]
    found = ", ".join(f"{flag}: {maps.flag(flag)}" for flag in missing or needed)
    if missing:
        why = f"the webhook refuses a Service with {', '.join(needed[flag] for flag in missing)}"
        return fail(name, found, why, enable_command(*missing))
    return ok(name, found) if needed else not_applicable(name, "no field of the Service needs one")


def timeout(cluster: Cluster, settings: Settings) -> Check:
    """Check ``request_timeout_s`` against the most that the cluster allows a revision."""
    maps = ClusterConfigMaps(defaults=cluster.knative_config("defaults"))
    most = maps.number("max-revision-timeout-seconds")
    found = f"request_timeout_s {settings.request_timeout_s}, the cluster allows {most}"
    if settings.request_timeout_s <= most:
        return ok("timeout", found)
    why = "the webhook refuses a timeoutSeconds above max-revision-timeout-seconds"
    return fail("timeout", found, why, f"--set request_timeout_s={most}")


def driver(cluster: Cluster, settings: Settings) -> Check:
    """Check that the driver of the volume is there."""
    name = _DRIVERS.get(settings.storage)
    if not name:
        shared = settings.storage == "shared"
        why = "storage=pvc needs none of Alibaba Cloud's"
        return not_applicable("csi-driver", "an administrator made the volume" if shared else why)
    if cluster.find(CSI_DRIVER, name):
        return ok("csi-driver", name)
    # That object is optional.
    nodes = [node["spec"].get("drivers") or [] for node in cluster.list(CSI_NODE)]
    if any(one.get("name") == name for drivers in nodes for one in drivers):
        return ok("csi-driver", name)
    why = f"there is no CSIDriver {name} and no node has it: no pod can mount the weights"
    fix = "ACK: console, Operations > Add-ons > csi-plugin; elsewhere: --set storage=pvc"
    return fail("csi-driver", "not installed", why, fix)


def transfer_image(settings: Settings) -> Check:
    """Check the image of the Job that fills a volume."""
    if settings.storage in ("oss", "shared"):
        return not_applicable("transfer-image", f"storage={settings.storage} needs no Job")
    if settings.transfer_image:
        return ok("transfer-image", settings.transfer_image)
    fix = "build and push the Dockerfile's image, then --set transfer_image=IMAGE"
    return fail("transfer-image", "not set", "a Job with it fills the volume", fix)


def storage_class(cluster: Cluster, settings: Settings) -> Check:
    """Check the class of a claim that is to be provisioned."""
    if settings.storage != "pvc":
        return not_applicable("storage-class", "only storage=pvc needs one")
    classes = {name_of(one): annotations_of(one) for one in cluster.list(STORAGE_CLASS)}
    default = next((n for n in classes if classes[n].get(_DEFAULT_CLASS) == "true"), "")
    wanted = settings.storage_class or default
    if wanted in classes:
        return ok("storage-class", wanted)
    why = f"StorageClass {wanted} does not exist" if wanted else "the cluster has no default class"
    fix = f"--set storage_class={min(classes)}" if classes else "install a provisioner of volumes"
    return fail("storage-class", wanted or "none", why, fix)


def rrsa(cluster: Cluster, settings: Settings, *, ack: bool) -> Check:
    """Check, or advise, that nodes read the bucket by a RAM role instead of a Secret's key."""
    if settings.storage != "oss" or not ack:
        return not_applicable("rrsa", "for buckets on Alibaba Cloud ACK")
    plugin = cluster.find(DAEMON_SET, "csi-plugin", namespace="kube-system")
    image = re.search(r"csi-plugin:(v?[\d.]+)", str(plugin))
    version, since = image[1] if image else "", _RRSA_SINCE[settings.fuse_type]
    able = bool(version) and numbers(version) >= numbers(since)
    if settings.oss_auth == "key":
        advice = "; --set oss_auth=rrsa --set rrsa_role=ROLE needs none" if able else ""
        return ok("rrsa", f"not used: a Secret holds an AccessKey{advice}")
    if able:
        return ok("rrsa", f"role {settings.rrsa_role}, csi-plugin {version}")
    why = f"{settings.fuse_type} knows RRSA since csi-plugin {since}"
    if not version:
        return unknown("rrsa", f"{why}; its version is not visible here")
    return fail("rrsa", f"csi-plugin {version}", why, "upgrade it, or --set oss_auth=key")


def referred(setting: str, cluster: Cluster, settings: Settings) -> Check:
    """Check the Secret or the RuntimeClass that the pods refer to by a setting."""
    name, wanted = setting.replace("_", "-"), str(getattr(settings, setting))
    kind, fix = REFERRED[setting]
    if not wanted:
        return not_applicable(name, f"{setting} is not set")
    if cluster.find(kind, wanted):
        return ok(name, wanted)
    make = fix.format(wanted, cluster.namespace)
    return fail(name, wanted, f"{kind} {wanted} does not exist here", make)
