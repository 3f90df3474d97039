"""One kill of each command: ``tools/kills.py`` does many. Uploads: tests/sandbox/transfer."""

from __future__ import annotations

import json

import kills
import pytest

LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("teardown", "up", "down")]


@pytest.mark.parametrize("command", ["deploy", "run", *LONG])
def test_after_a_kill_nothing_stays_and_the_next_one_ends_well(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = kills.main(
        ["--only", command, "--times", "1", "--courses", "0", "--seed", "2", "--json"]
    )
    (row,) = json.loads(capsys.readouterr().out)
    assert (code, row["good"]) == (0, 1), row["problems"]
