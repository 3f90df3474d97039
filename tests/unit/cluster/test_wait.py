from __future__ import annotations

import pytest

from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.wait import Transition, wait
from qwenkit.errors import NotReady, WaitTimeout


def test_each_transition_is_reported_once() -> None:
    values = iter([0, 0, 1, 1, 1, 2])
    seen: list[Transition] = []
    done = wait(
        lambda: next(values),
        what="two",
        ready=lambda v: v == 2,
        describe=str,
        timeout_s=10,
        every_s=0.001,
        on_change=seen.append,
    )
    assert done.value == 2
    assert [t.state for t in seen] == ["0", "1", "2"]
    assert done.transitions == tuple(seen)
    assert [t.at_s for t in seen] == sorted(t.at_s for t in seen)
    assert str(done).startswith("2 after ")


def test_a_timeout_carries_the_last_state_and_the_transitions() -> None:
    values = iter(["a", "b"] + ["c"] * 1000)
    with pytest.raises(WaitTimeout, match=r"z: not after 0.05 s") as caught:
        wait(
            lambda: next(values),
            what="z",
            ready=lambda v: v == "z",
            describe=lambda v: v,
            timeout_s=0.05,
            every_s=0.001,
            late=lambda last: Explanation("stuck", f"stuck at {last}", fix="push"),
        )
    assert caught.value.context["last"] == "c"
    assert [t.split("  ")[-1] for t in caught.value.context["transitions"]] == ["a", "b", "c"]
    assert (caught.value.why, caught.value.fix) == ("stuck at c", "push")


def test_one_poll_even_without_time() -> None:
    assert wait(lambda: 1, what="", ready=bool, describe=str, timeout_s=0).value == 1


def test_an_early_failure_carries_the_same_facts() -> None:
    polls = 0

    def poll() -> int:
        nonlocal polls
        polls += 1
        return polls

    with pytest.raises(NotReady, match="broken") as caught:
        wait(
            poll,
            what="x",
            ready=lambda _v: False,
            describe=str,
            failed=lambda v: NotReady("broken") if v == 3 else None,
            timeout_s=60,
            every_s=0.001,
        )
    assert polls == 3
    assert caught.value.context["last"] == "3"
    assert len(caught.value.context["transitions"]) == 3
