"""A course gets past an API that fails at every verb; tools/api_faults.py has all the rows."""

from __future__ import annotations

from api_faults import Row, disturbed, judged
from faulty_api import Fault


def test_a_course_gets_past_a_fault_of_each_verb() -> None:
    with disturbed(silence_s=2) as (proxy, settings):
        proxy.arm(
            Fault("READ", "502", skip=2),
            Fault("GET", "reset", skip=3),
            Fault("GET", "silence", skip=9),
            Fault("LIST", "null items", skip=4),
            Fault("LIST", "truncated", skip=20),
            Fault("PATCH", "429 in 1 s", skip=1),
            Fault("PATCH", "lost answer", skip=6),
            Fault("PATCH", "409", skip=7),
            Fault("DELETE", "500"),
            Fault("DELETE", "lost answer", skip=2),
        )
        row = judged(proxy, settings, Row("every", "fault"))
    assert row.bad == []
    assert row.ended == {"deploy": "ok", "load": "ok", "teardown": "ok"}
    assert row.hit.count("/") >= 20
