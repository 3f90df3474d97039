"""The exercises of chapter 02: right ways, wrong ways and what each is told."""

from __future__ import annotations

import copy

import pytest
from given_facts import GivenFacts, is_told

from qwenkit.exercises.exercise import PASSED, TODO, find
from qwenkit.manifests.render import render
from qwenkit.settings import Settings

S = Settings(bucket="weights", oss_endpoint="http://oss-cn-hangzhou.aliyuncs.com")


def door(name, **changes):
    """Return Secret, PV and PVC of a name, bound to one another."""
    documents = copy.deepcopy(list(render(S.model_copy(update={"volume": name}))[:-1]))
    volume, claim = documents[1:]
    volume["spec"]["claimRef"]["uid"] = f"{name}-1"
    volume["status"] = {"phase": changes.pop("phase", "Bound")}
    claim["status"] = {"phase": "Bound"}
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = {"pv": volume, "pvc": claim}[folders.pop(0)]
        for folder in folders:
            place = place[folder]
        place[last] = value
    return documents


COURSE = door("llm-model")
ATTRIBUTES = {"bucket": "weights", "path": f"/{S.prefix}"}
HERS = {"claimRef": {"name": "successor", "uid": "successor-1"}}


def grade(id_, objects=COURSE, answer=None):
    return find(id_).grade(GivenFacts(S, answer=answer, objects=objects))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("oss://b/Qwen-7B-Chat-Int8/config.json", "url"),
        ("/Qwen-7B-Chat-Int8/Qwen-7B-Chat-Int8/config.json", "twice"),
        ("Qwen-7B-Chat-Int8/config.json", "object-name"),
        ("/config.json", "no-mount"),
        ("config.json", "no-mount"),
        ("/Qwen-7B-Chat-Int8/", "folder"),
        ("/mnt/config.json", "other"),
        (1, "other"),
    ],
)
def test_from_object_to_file(answer, told):
    is_told("02.1", grade("02.1", answer=answer), told)


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        (door("reader")[2:], "claim-alone"),
        (door("reader", pv__spec__csi__volumeHandle="llm-model"), "handle"),
        (door("reader", pv__spec__csi__volumeAttributes=ATTRIBUTES | {"path": "/"}), "folder"),
        (door("reader", pv__spec__csi__volumeAttributes=ATTRIBUTES | {"bucket": "c"}), "folder"),
        (door("reader", pvc__spec__storageClassName="alicloud-disk-essd"), "class"),
        (door("reader", pv__spec__accessModes=["ReadWriteMany"]), "writable"),
        (door("reader")[1:], "no-key"),
        (door("reader", phase="Available"), "not-bound"),
        (door("reader", phase="Released"), "not-bound"),
        (door("reader", pv__metadata__labels={}), "unlabelled"),
        (door("reader", pvc__metadata__labels={"qwenkit.dev/run": "other"}), "unlabelled"),
    ],
)
def test_a_second_door(objects, told):
    is_told("02.2", grade("02.2", [*COURSE, *objects]), told)


def successor(name="reader", **changes):
    """Return a claim `successor` for a volume, and the volume `reader` with changes."""
    volume = door("reader", **changes)[1]
    claim = door("successor", pvc__spec__volumeName=name)[2]
    return [volume, claim]


BOUND = {"pv__spec__claimRef": HERS["claimRef"]}


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        ([*COURSE, successor()[1]], "volume-gone"),
        (successor(**BOUND), "wrong-claim"),
        ([*COURSE, *door("reader", phase="Released")[:2]], "released"),
        ([*COURSE, *door("reader"), successor()[1]], "both"),
        ([*COURSE, *successor("llm-model", phase="Released")], "other-volume"),
        ([*COURSE, *successor("successor")], "other-volume"),
        ([*COURSE, *successor(phase="Released")], "old-uid"),
        ([*COURSE, *successor("", phase="Available")], "pending"),
        ([*COURSE, *successor(phase="Available")], "pending"),
    ],
)
def test_the_next_claim(objects, told):
    is_told("02.3", grade("02.3", objects), told)


def test_a_claim_that_teardown_does_not_find_is_told():
    objects = [*COURSE, *successor(**BOUND)]
    objects[-1]["metadata"]["labels"] = {}
    is_told("02.3", grade("02.3", objects), "unlabelled")


def without_class(objects):
    """Return the objects as an API server keeps a PV that was written without a class."""
    for one in objects:
        one["spec"].pop("storageClassName", None) if "spec" in one else None
    return objects


@pytest.mark.parametrize(
    ("id_", "objects", "answer"),
    [
        ("02.1", COURSE, "/Qwen-7B-Chat-Int8/config.json"),
        ("02.1", COURSE, " /Qwen-7B-Chat-Int8/config.json "),
        ("02.2", [*COURSE, *door("reader")], None),
        ("02.2", [*COURSE, *without_class(door("reader"))], None),
        (
            "02.2",
            [
                *COURSE,
                *door("reader", pv__spec__csi__nodePublishSecretRef={"name": "llm-model-oss"})[1:],
            ],
            None,
        ),
        ("02.2", [*COURSE, door("reader")[0], *successor(**BOUND)], None),  # after 02.3
        ("02.3", [*COURSE, *successor(**BOUND)], None),
    ],
)
def test_a_right_way_passes(id_, objects, answer):
    assert grade(id_, objects, answer) == PASSED


@pytest.mark.parametrize(
    ("id_", "objects"),
    [
        ("02.1", COURSE),
        ("02.2", []),
        ("02.2", COURSE),
        ("02.3", COURSE),
        ("02.3", [*COURSE, *door("reader")]),
    ],
)
def test_untouched_it_is_not_done_yet(id_, objects):
    assert grade(id_, objects) == TODO
