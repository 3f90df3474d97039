"""Why a Service has no PVC: the flag is off, the PVC is missing, or it is not bound."""

from __future__ import annotations

import re

from qwenkit.admission.config_maps import PVC_FLAG
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot, claim_names
from qwenkit.cluster.feature_flags import enable_command
from qwenkit.cluster.kinds import Obj, name_of
from qwenkit.cluster.ownership import another_volume


def flag_off(service: str) -> Explanation:
    """Explain a Service that cannot exist because Knative refuses every PVC."""
    return Explanation(
        "pvc-flag",
        f"ksvc {service} does not exist, and Knative would refuse one that mounts a PVC",
        (f"configmap config-features: {PVC_FLAG} is not enabled",),
        enable_command(),
    )


def missing_or_unbound(snapshot: Snapshot) -> Explanation | None:
    """Explain the first PVC of the Service that is missing or not Bound."""
    message = snapshot.unschedulable()
    missing = re.search(r'persistentvolumeclaim "([^"]+)" not found', message)
    if missing:
        return Explanation(
            "pvc-missing",
            f"the PVC {missing[1]} does not exist",
            fix="qwenkit deploy creates it; by hand, apply the PV and PVC before the Service",
        ).shown_by(message)
    unbound = [c for c in snapshot.claims if c.get("status", {}).get("phase") != "Bound"]
    if not unbound or not claim_names(snapshot.service or {}):
        return None
    return unbound_claim(unbound[0], snapshot)


def unbound_claim(claim: Obj, snapshot: Snapshot) -> Explanation:
    """Explain a PVC that is not Bound; a released PV is never bound again."""
    phase = claim.get("status", {}).get("phase") or "Pending"
    name = str(claim["spec"].get("volumeName") or "")
    fix = f"create the PV {name or 'that it needs'}: qwenkit deploy does"
    evidence = [f"pvc {name_of(claim)}: {phase}", *snapshot.messages("ProvisioningFailed")]
    permanent = phase == "Lost"
    volume = next((v for v in snapshot.volumes if name_of(v) == name), None)
    if volume is not None:
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
