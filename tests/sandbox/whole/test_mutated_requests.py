"""A few of the requests of ``tools/fuzz.py``, against a sandbox in a process of its own."""

from __future__ import annotations

import fuzz
import pytest


@pytest.mark.parametrize("name", ["api", "oss"])
def test_no_request_is_answered_with_500(name: str) -> None:
    part = fuzz.in_a_child(name, 150, 77)
    assert part.cases == 150
    assert part.findings == []
    assert part.peak_mib <= part.bound_mib
