"""The pause that a server asks for, in every header that is in use."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from qwenkit.untrusted.pauses import asked_pause


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": " 0.5 "}, 0.5),
        ({"Retry-After": "9" * 5000}, 0),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "nan"}, 0),
        ({"Retry-After": "inf"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "Fri, 01 Jan 2016 00:00:00 GMT"}, 0),
        ({"Retry-After": "Fri, 99 Foo 2026 00:00:00 GMT"}, 0),
        ({"RateLimit": '"api";r=0;t=55'}, 55),
        ({"RateLimit": '"default";r=0;t=30', "Retry-After": "x"}, 30),
        ({"RateLimit": '"default";r=0;t=30', "Retry-After": "7"}, 7),
        ({"RateLimit": '"day";r=40;t=3600, "minute";r=0;t=30'}, 30),
        ({"RateLimit": '"api"; t=12; r=0'}, 12),
        ({"RateLimit": "limit=100, remaining=0, reset=45"}, 45),
        ({"RateLimit": '"api";r=0'}, 0),
        ({"RateLimit-Reset": "9"}, 9),
        ({"X-RateLimit-Reset": "9"}, 9),
        ({"X-RateLimit-Reset": "1700000000"}, 0),
        ({}, 0),
    ],
)
def test_the_pause_that_a_server_asks_for(headers: dict[str, str], seconds: float) -> None:
    assert asked_pause(headers) == seconds


def test_a_moment_is_a_pause_until_it() -> None:
    date = formatdate(time.time() + 100, usegmt=True)
    assert 90 < asked_pause({"Retry-After": date}) <= 100
    assert 90 < asked_pause({"X-RateLimit-Reset": str(int(time.time()) + 100)}) <= 100
