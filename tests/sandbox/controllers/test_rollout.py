"""Gradual rollouts and the collection of old revisions, as sums."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.knative.revision_garbage import (
    RevisionRetention,
    chosen,
    read_retention,
)
from qwenkit.sandbox.controllers.routing.rollout import (
    ConfigurationRollout,
    Rollout,
    Share,
    StepParams,
    advance,
    dump,
    load,
    observe_ready,
)
from qwenkit.sandbox.kube.objects import Object, timestamp, utc_now

SECOND = 1_000_000_000


def steady(revision: str, percent: int = 100) -> Rollout:
    return Rollout((ConfigurationRollout("c", "", percent, (Share(revision, percent),)),))


def shares(rollout: Rollout) -> list[tuple[str, int]]:
    return [(share.revision, share.percent) for share in rollout.parts[0].shares]


def test_four_steps_are_taken_evenly_after_the_first_percent() -> None:
    now = 1000 * SECOND
    begun = advance(steady("r2"), steady("r1"), now)
    assert shares(begun) == [("r1", 99), ("r2", 1)]
    # The gateway took 20 s to take one percent in: 80 of the 100 s are left, for 4 steps.
    going = observe_ready(begun, now + 20 * SECOND, 100)
    assert going.parts[0].steps == StepParams(now, now + 40 * SECOND, 20 * SECOND, 25)
    seen = []
    for moment in range(now + 20 * SECOND, now + 101 * SECOND, SECOND):
        going = advance(steady("r2"), going, moment)
        if shares(going) not in seen:
            seen.append(shares(going))
    assert seen == [
        [("r1", 99), ("r2", 1)],
        [("r1", 74), ("r2", 26)],
        [("r1", 49), ("r2", 51)],
        [("r1", 24), ("r2", 76)],
        [("r2", 100)],
    ]
    assert going == steady("r2")


def test_a_third_revision_takes_its_first_percent_from_the_second() -> None:
    going = advance(steady("r2", 60), steady("r1", 60), SECOND)
    going = observe_ready(going, 2 * SECOND, 10)
    going = advance(steady("r2", 60), going, 4 * SECOND)
    assert shares(going) == [("r1", 52), ("r2", 8)]
    assert shares(advance(steady("r3", 60), going, 5 * SECOND)) == [
        ("r1", 52),
        ("r2", 7),
        ("r3", 1),
    ]


def test_a_smaller_share_is_taken_from_the_oldest() -> None:
    going = advance(steady("r2"), steady("r1"), SECOND)
    assert shares(advance(steady("r2", 40), going, SECOND)) == [("r1", 39), ("r2", 1)]
    assert shares(advance(steady("r2", 1), going, SECOND)) == [("r2", 1)]


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 100), st.integers(0, 40)), max_size=30),
    st.integers(1, 120),
)
def test_shares_always_add_up_and_every_rollout_ends(
    changes: list[tuple[int, int, int]], duration_s: int
) -> None:
    now, going, wanted = SECOND, steady("r1"), steady("r1")
    for revision, percent, wait_s in changes:
        wanted = steady(f"r{revision}", percent)
        now += wait_s * SECOND
        going = advance(wanted, observe_ready(going, now, duration_s), now)
        part = going.parts[0]
        assert sum(share.percent for share in part.shares) == percent
        assert all(share.percent > 0 for share in part.shares)
        assert load(dump(going)) == going
    for _ in range(500):
        now += 120 * SECOND
        going = advance(wanted, observe_ready(going, now, duration_s), now)
    assert going.done
    assert replace(going.parts[0], steps=StepParams()) == wanted.parts[0]


def test_an_annotation_that_makes_no_sense_counts_for_nothing() -> None:
    wrong = steady("r1", 50)
    doubled = dump(Rollout((replace(wrong.parts[0], percent=100),)))
    for text in ("", "x", "[]", '{"configurations":[{}]}', doubled):
        assert load(text) is None
    assert advance(wrong, None, 0) == wrong


def revision(name: str, *, idle_h: float) -> Object:
    then = timestamp(utc_now() - timedelta(hours=idle_h))
    annotations = {names.ROUTING_STATE_MODIFIED: then}
    return {"metadata": {"name": name, "creationTimestamp": then, "annotations": annotations}}


def test_the_oldest_revisions_go_first() -> None:
    idle = [revision("a", idle_h=60), revision("b", idle_h=90), revision("c", idle_h=1)]

    def gone(**limits: float | None) -> str:
        found = chosen(idle, replace(RevisionRetention(least=0), **limits))  # type: ignore[arg-type]
        return "".join(item["metadata"]["name"] for item in found)

    assert gone() == "ba"
    assert gone(least=2) == "b"
    assert gone(most=0) == "bac"
    assert gone(since_created_s=None, since_active_s=None) == ""
    assert gone(since_created_s=None, since_active_s=None, most=1) == "ba"
    assert gone(since_created_s=None, since_active_s=70 * 3600.0) == "b"


def test_the_config_map_is_read_as_knative_reads_it() -> None:
    assert read_retention({}) == RevisionRetention(48 * 3600, 15 * 3600, 20, 1000)
    off = "disabled"
    keys = ("retain-since-create-time", "retain-since-last-active-time", "max-non-active-revisions")
    assert read_retention(dict.fromkeys(keys, off)).off
    data = {"retain-since-create-time": "1h30m", "min-non-active-revisions": "3"}
    assert read_retention(data) == RevisionRetention(5400, 15 * 3600, 3, 1000)
    assert read_retention({"retain-since-create-time": "soon"}) == RevisionRetention()
