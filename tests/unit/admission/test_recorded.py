"""Every answer that a real cluster gave to a variant of the course's Service."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
from places import DATA

from qwenkit.admission.review import review
from qwenkit.errors import Rejected

CASES: list[dict[str, Any]] = [
    case
    for name in ("admission", "admission-2", "admission-update")
    for case in json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))
]
FEATURES = {
    "kubernetes.podspec-persistent-volume-claim": "enabled",
    "kubernetes.podspec-persistent-volume-write": "enabled",
}
ADDRESS = re.compile("0x[0-9a-f]+")
POD_NAME = re.compile(r'Pod "dry-run-validation([a-z0-9]{5})"')


def test_nothing_is_missing() -> None:
    assert len(CASES) == 264
    assert sum(case["accepted"] for case in CASES) == 133


def stored(case: dict[str, Any]) -> dict[str, Any] | None:
    """Return the object that an update meets, as it was admitted."""
    return review(case["old"], features=FEATURES) if "old" in case else None


@pytest.mark.parametrize("case", [c for c in CASES if c["accepted"]], ids=lambda c: c["name"])
def test_accepted_and_defaulted(case: dict[str, Any]) -> None:
    before = json.dumps(case["object"])
    admitted = review(case["object"], old=stored(case), features=FEATURES)
    spec = admitted["spec"]["template"]["spec"]
    assert {name: spec.get(name) for name in case["defaulted"]} == case["defaulted"]
    assert spec["containers"][0].get("readinessProbe") == case["readinessProbe"]
    assert json.dumps(case["object"]) == before


@pytest.mark.parametrize("case", [c for c in CASES if not c["accepted"]], ids=lambda c: c["name"])
def test_refused_in_the_same_words(case: dict[str, Any]) -> None:
    pod = POD_NAME.search(case["message"])
    suffix = pod[1] if pod else "00000"
    old = stored(case)
    with pytest.raises(Rejected) as caught:
        review(case["object"], old=old, features=FEATURES, suffix=suffix)
    assert ADDRESS.sub("0x", caught.value.what) == ADDRESS.sub("0x", case["message"])
    assert caught.value.context["status"] == case["status"]
    assert caught.value.context["reason"] == case["reason"]
