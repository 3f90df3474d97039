"""Chapter 90: what is gone, and what is kept."""

from __future__ import annotations

import re

from qwenkit.cluster.kinds import EVENT, KSVC, POD, PV, PVC, SECRET, SERVICE_LABEL, is_terminating
from qwenkit.exercises.exercise import TODO, Verdict, exercise, judged, number
from qwenkit.exercises.facts import Facts

_NEED_A_POD = {"03.2", "04.2", "04.3", "05.3", "05.4", "06.3", "07.2", "07.3"}


@exercise("90.1")
def what_is_still_billed(facts: Facts) -> Verdict:
    """The objects in the bucket, which no volume takes with it, in MB."""
    if facts.answer is None:
        return TODO
    own = facts.settings
    size = sum(facts.objects().values()) / 1e6 if own.storage == "oss" else 0.0
    slips = {
        "gone-with-volume": 0.0,
        "kept-anyway": size,
        "mebibytes": size * 1e6 / 2**20,
        "gigabytes": size / 1000,
        "bytes": size * 1e6,
        "documented": 9130.0,
    }
    right = 0.0 if own.delete_weights else size
    return number(facts.answer, right, slips, within=0.03)


@exercise("90.2")
def gone_and_kept(facts: Facts) -> Verdict:
    """All objects of this run are gone, and the weights are as ``delete_weights`` says."""
    own = facts.settings
    shared = own.storage == "shared"  # then volume, claim and key are an administrator's
    services, claims, volumes, keys = (
        [] if shared and kind != KSVC else facts.list(kind, own.labels)
        for kind in (KSVC, PVC, PV, SECRET)
    )
    pods = facts.list(POD, {SERVICE_LABEL: own.service})
    weights = facts.objects() if own.storage == "oss" else {}
    # Kubernetes keeps the events of ended pods for an hour, a learner's record what needed one.
    started = (event["involvedObject"].get("name", "") for event in facts.list(EVENT))
    ran = not _NEED_A_POD.isdisjoint(facts.passed) or any(
        re.match(rf"{own.service}-\d{{5}}\b", name) for name in started
    )
    stands = shared or (claims and not any(map(is_terminating, claims)))
    if not ran or (services and stands):
        return TODO
    seen = {
        "claim-first": services,
        "pods-left": pods,
        "claim-left": claims and own.storage != "pvc",
        "volume-left": volumes,
        "keys-left": keys,
        "weights-cut": weights and f"{own.prefix}/qwenkit.json" not in weights,
        "weights-left": weights and own.delete_weights,
    }
    return judged(seen, prefix=own.prefix)
