"""Why a volume is not there: the PVC, the driver, or the mount."""

from __future__ import annotations

import re
from dataclasses import replace

from qwenkit.admission.config_maps import PVC_FLAG
from qwenkit.admission.feature_flags import enable_command
from qwenkit.cluster.diagnosis.causes.rows import first_row
from qwenkit.cluster.diagnosis.explanation import CRASH_BUDGET, Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot, event_count
from qwenkit.cluster.kinds import CSI_DRIVER, PV, Obj, is_terminating, name_of
from qwenkit.cluster.ownership import ADMIN_MAKES, another_volume
from qwenkit.cluster.pods import has_run

MOUNT_REASONS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
_PROVISIONING = ("ProvisioningFailed", "FailedBinding", "VolumeMismatch", "ExternalProvisioning")


def flag_off(service: str) -> Explanation:
    """Explain a Service that cannot exist because Knative refuses every PVC."""
    return Explanation(
        "pvc-flag",
        f"ksvc {service} does not exist, and Knative would refuse one that mounts a PVC",
        (f"configmap config-features: {PVC_FLAG} is not enabled",),
        enable_command(),
    )


def no_claim(snapshot: Snapshot) -> Explanation | None:
    """Explain the first PVC of the Service that is being deleted, lost, or not Bound."""
    going = [f"pvc {name_of(c)}: Terminating" for c in snapshot.claims if is_terminating(c)]
    said = [*going, snapshot.unschedulable()]
    if found := first_row("claim", said):
        return found.shown_by(*reversed(said))
    unbound = [c for c in snapshot.claims if (c.get("status") or {}).get("phase") != "Bound"]
    if not unbound or snapshot.messages("WaitForFirstConsumer"):
        return None
    return unbound_claim(unbound[0], snapshot)


def unbound_claim(claim: Obj, snapshot: Snapshot) -> Explanation:
    """Explain a PVC that is not Bound; a released PV is never bound again."""
    phase = claim.get("status", {}).get("phase") or "Pending"
    name = str(claim["spec"].get("volumeName") or "")
    fix = f"create the PV {name or 'that it needs'}: qwenkit deploy does; or {ADMIN_MAKES}"
    events = [text for reason in _PROVISIONING for text in snapshot.messages(reason)]
    evidence = [f"pvc {name_of(claim)}: {phase}", *events[:2]]
    missing = re.search(r'storageclass\S* "([^"]+)" not found', " ".join(events))
    if missing:
        fix = f"its storage class {missing[1]} does not exist: kubectl get storageclass"
    permanent = phase == "Lost" or bool(missing)
    if volume := snapshot.find(PV, name):
        owner = volume["spec"].get("claimRef") or {}
        state = volume.get("status", {}).get("phase")
        claimant = f"{owner.get('namespace')}/{owner.get('name')}"
        evidence.append(f"pv {name}: {state}, claimed by {claimant}")
        fix = "qwenkit teardown, then deploy: a released PV is not bound again"
        permanent = state == "Released"
        here = str(claim["metadata"].get("namespace") or "")
        if here and owner.get("name") and claimant != f"{here}/{name_of(claim)}":
            cause = f"the PVC {name_of(claim)} is {phase}: its PV {name} is for {claimant}"
            found = Explanation("pvc-unbound", cause, fix=another_volume(name, here))
            return found.shown_by(*evidence)
    cause = f"the PVC {name_of(claim)} is {phase}"
    return Explanation("pvc-unbound", cause, fix=fix, permanent=permanent).shown_by(*evidence)


def not_mounted(snapshot: Snapshot) -> Explanation | None:
    """Explain a pod that waits for its volumes, once a mount has failed or cannot be tried."""
    pods = snapshot.living()
    if not pods or any(map(has_run, pods)):
        return None
    events = [event for reason in MOUNT_REASONS for event in snapshot.events_of(reason)]
    texts = [str(event.get("message") or "") for event in events]
    if missing := _missing_driver(snapshot):
        # A driver may do without its object: only a mount that failed shows that it is not there.
        return replace(missing, permanent=bool(events)).shown_by(*missing.evidence, *texts[:1])
    if not events:
        return None
    slow = first_row("mount", texts) or Explanation(
        "mount",
        "a volume cannot be mounted",
        fix="the message says which and why; if it is the weights' on OSS: check the Secret's "
        "keys, bucket, path and oss_internal_endpoint in the PV (qwenkit doctor)",
        permanent=max(map(event_count, events)) > CRASH_BUDGET,
    )
    # "timed out" is what the kubelet says after any other error: what it said before decides.
    said = [text for text in texts if not re.search("timed out|deadline ?exceeded", text, re.I)]
    found = (first_row("mount", said) if slow.kind == "mount" else None) or slow
    return found.shown_by(*found.evidence, *texts[:1])


def _missing_driver(snapshot: Snapshot) -> Explanation | None:
    """Return why a volume has no CSI driver: only if all drivers of the cluster are known."""
    drivers = {name_of(driver) for driver in snapshot.of(CSI_DRIVER)}
    bound = {claim["spec"].get("volumeName") for claim in snapshot.claims}
    for volume in snapshot.of(PV) if snapshot.has_all(CSI_DRIVER) else ():
        driver, name = (volume["spec"].get("csi") or {}).get("driver"), name_of(volume)
        if name in bound and driver and driver not in drivers:
            return Explanation(
                "csi-missing",
                f"the cluster has no CSI driver {driver}, which the volume {name} needs",
                fix="install the driver (ACK: the component csi-plugin); in the sandbox: "
                "without --no-oss-driver",
            ).shown_by(f"csidrivers: {', '.join(sorted(drivers)) or 'none'}")
    return None
