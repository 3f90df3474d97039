"""A few of the cases of ``tools/fuzz.py``, which runs thousands."""

from __future__ import annotations

import fuzz
import pytest


@pytest.mark.parametrize("name", ["manifests", "settings", "params", "recordings"])
def test_no_mutation_is_more_than_one_typed_error(name: str) -> None:
    part = fuzz.PARTS[name][0](120, 20)
    assert part.cases == 120
    assert part.findings == []
    assert part.slowest_s < fuzz.CASE_S


def test_documents_of_odd_types_are_findings() -> None:
    deep: object = 1
    for _ in range(300):
        deep = [deep]
    service = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
    odd = [{"kind": "PersistentVolume", "spec": deep}, {**service, "spec": 16**5000}, "text", None]
    levels = {finding.level for finding in fuzz.lint(odd)}
    assert levels == {"error"}
