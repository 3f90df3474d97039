"""Chapter 02: the path of a file, a second volume for the same folder, and its next claim."""

from __future__ import annotations

from qwenkit.cluster.kinds import PV, PVC, SECRET, Obj, labels_of
from qwenkit.exercises.exercise import TODO, Verdict, exercise, judged
from qwenkit.exercises.facts import Facts


@exercise("02.1")
def from_object_to_file(facts: Facts) -> Verdict:
    """The volume's path is swallowed; the rest appears below the mount path."""
    path, mount = str(facts.answer or "").strip(), facts.settings.mount_path
    key = f"{facts.settings.prefix}/config.json"
    seen = {
        "url": "://" in path,
        "twice": path == f"{mount}/{key}",
        "object-name": path == key,
        "no-mount": path.strip("/") == "config.json",
        "folder": path.rstrip("/") == mount,
        "other": path != f"{mount}/config.json",
    }
    return judged(seen, answer=path) if path else TODO


@exercise("02.2")
def a_second_door(facts: Facts) -> Verdict:
    """A PV for the same folder, and a claim that holds it, whatever its name by now."""
    first, volume = facts.find(PV, facts.settings.volume), facts.find(PV, "reader")
    if volume is None or first is None:
        alone = volume is None and facts.find(PVC, "reader")
        return judged({"claim-alone": True}) if alone else TODO
    spec, old, csi = volume["spec"], first["spec"], volume["spec"].get("csi", {})
    claim = facts.find(PVC, spec.get("claimRef", {}).get("name", "reader")) or {"spec": {}}
    key = csi.get("nodePublishSecretRef", {}).get("name", "")
    seen = {
        "handle": csi.get("volumeHandle") == old.get("csi", {}).get("volumeHandle"),
        "folder": _place(volume) != _place(first),
        "class": spec.get("storageClassName") or claim["spec"].get("storageClassName"),
        "writable": set(spec["accessModes"]) != set(old["accessModes"]),
        "no-key": "nodePublishSecretRef" in old.get("csi", {}) and not facts.find(SECRET, key),
        "not-bound": volume.get("status", {}).get("phase") != "Bound",
        "unlabelled": not (_is_ours(facts, volume) and _is_ours(facts, claim)),
    }
    return judged(seen, key=key or "-", path=_place(volume)[1])


@exercise("02.3")
def the_next_claim(facts: Facts) -> Verdict:
    """A released volume is bound again once its old claim is forgotten."""
    volume, claim = facts.find(PV, "reader"), facts.find(PVC, "successor")
    before, phase = facts.find(PVC, "reader"), ((volume or {}).get("status") or {}).get("phase")
    if claim is None and (before or volume is None):
        return TODO
    named = (claim or {"spec": {}})["spec"].get("volumeName", "")
    seen = {
        "volume-gone": volume is None,
        "wrong-claim": not facts.find(PVC, facts.settings.volume),
        "released": claim is None,
        "both": before,
        "other-volume": named not in ("", "reader"),
        "old-uid": phase == "Released",
        "pending": phase != "Bound" or not named,
        "unlabelled": not _is_ours(facts, claim or {}),
    }
    return judged(seen, found=named)


def _place(volume: Obj) -> tuple[str, ...]:
    said = volume["spec"].get("csi", {}).get("volumeAttributes", {})
    return tuple(str(said.get(name, "")).strip("/") for name in ("bucket", "path", "server"))


def _is_ours(facts: Facts, obj: Obj) -> bool:
    return facts.settings.labels.items() <= labels_of(obj).items()
