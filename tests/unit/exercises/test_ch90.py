"""Chapter 90: what each wrong answer or state is told, and every right way that passes."""

from __future__ import annotations

import pytest
from given_facts import GivenFacts, verdict

from qwenkit.exercises.exercise import find
from qwenkit.settings import Settings

OURS = Settings().labels
WHOLE = {"Qwen-7B-Chat-Int8/qwenkit.json": "{}", "Qwen-7B-Chat-Int8/weights": "w" * 2_700_000}
CUT = {"Qwen-7B-Chat-Int8/weights": "w"}
OTHERS = {"somewhere-else/file": "w" * 900_000}


def obj(api, kind, name, labels=OURS, **metadata):
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "labels": labels, **metadata},
    }


SERVICE = obj("serving.knative.dev/v1", "Service", "qwen")
POD = obj("v1", "Pod", "qwen-00001-deployment-a-b", {"serving.knative.dev/service": "qwen"})
CLAIM = obj("v1", "PersistentVolumeClaim", "llm-model")
GOING = obj("v1", "PersistentVolumeClaim", "llm-model", deletionTimestamp="2026-01-02T03:04:05Z")
VOLUME = obj("v1", "PersistentVolume", "llm-model")
KEYS = obj("v1", "Secret", "llm-model-oss")
RAN = obj("v1", "Event", "qwen.1") | {"involvedObject": {"kind": "Pod", "name": "qwen-00001-d-a-b"}}
FOREIGN = obj("v1", "PersistentVolume", "other", {"app.kubernetes.io/managed-by": "helm"})


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "todo"),
        (2.7, "passed"),
        (2.700002, "passed"),
        (0, "gone-with-volume"),
        (2.575, "mebibytes"),
        (0.0027, "gigabytes"),
        (2_700_002, "bytes"),
        (9130, "documented"),
        ("2.7 MB", "no-number"),
        (3.6, "other"),
    ],
)
def test_what_is_still_billed(answer, told):
    assert verdict("90.1", answer, bucket=WHOLE | OTHERS) == told


def test_what_is_still_billed_when_the_weights_go_too():
    assert verdict("90.1", 0, bucket=WHOLE, delete_weights=True) == "passed"
    assert verdict("90.1", 2.7, bucket=WHOLE, delete_weights=True) == "kept-anyway"


@pytest.mark.parametrize(
    ("objects", "bucket", "told"),
    [
        ([], {}, "todo"),
        ([], WHOLE, "todo"),  # after notebook 01
        ([KEYS, VOLUME, CLAIM], WHOLE, "todo"),  # after notebook 02
        ([RAN, SERVICE, POD, KEYS, VOLUME, CLAIM], WHOLE, "todo"),
        ([RAN, SERVICE, KEYS, VOLUME, CLAIM], WHOLE, "todo"),  # scaled to zero
        ([RAN], WHOLE, "passed"),
        ([RAN, FOREIGN], WHOLE, "passed"),
        ([RAN, SERVICE, POD, KEYS, VOLUME, GOING], WHOLE, "claim-first"),
        ([RAN, SERVICE, POD, KEYS], WHOLE, "claim-first"),
        ([RAN, POD, KEYS, VOLUME, CLAIM], WHOLE, "pods-left"),
        ([RAN, KEYS, VOLUME, CLAIM], WHOLE, "claim-left"),
        ([RAN, KEYS, VOLUME], WHOLE, "volume-left"),
        ([RAN, KEYS], WHOLE, "keys-left"),
        ([RAN], CUT, "weights-cut"),
    ],
)
def test_gone_and_kept(objects, bucket, told):
    assert verdict("90.2", objects=objects, bucket=bucket) == told


def test_what_ran_is_known_from_the_learner_s_record_when_its_events_are_gone():
    facts = GivenFacts(Settings(), bucket=WHOLE)
    facts.passed = ("03.1", "05.1")  # numbers need no pod
    assert find("90.2").grade(facts).kind == "todo"
    facts.passed = ("03.1", "03.2")
    assert find("90.2").grade(facts).kind == "passed"


def test_gone_and_kept_when_the_weights_go_too():
    assert verdict("90.2", objects=[RAN], bucket={}, delete_weights=True) == "passed"
    assert verdict("90.2", objects=[RAN], bucket=WHOLE, delete_weights=True) == "weights-left"


def test_a_claim_that_holds_the_weights_is_kept():
    assert verdict("90.2", objects=[RAN, CLAIM], storage="pvc") == "passed"


def test_an_administrator_s_claim_volume_and_key_are_not_looked_at():
    theirs = {"storage": "shared"}
    assert verdict("90.2", objects=[RAN, CLAIM, VOLUME, KEYS], **theirs) == "passed"
    assert verdict("90.2", objects=[RAN, SERVICE], **theirs) == "todo"


def test_what_ran_under_a_longer_name_was_another_service():
    event = {"involvedObject": {"kind": "Pod", "name": "qwen-large-00001-d-a-b"}}
    nameless = {"involvedObject": {"kind": "Node"}}
    other = [obj("v1", "Event", "other.1") | of for of in (event, nameless)]
    assert verdict("90.2", objects=other, bucket=WHOLE) == "todo"
