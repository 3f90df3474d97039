from __future__ import annotations

import pytest

from qwenkit.cluster.wait import Transition, wait
from qwenkit.errors import NotReady, Unreachable, WaitTimeout


def test_transitions_are_told_once_each() -> None:
    values = iter([0, 0, 1, 1, 1, 2])
    told: list[Transition] = []
    done = wait(
        lambda: next(values),
        what="two",
        ready=lambda v: v == 2,
        describe=str,
        timeout_s=10,
        every_s=0.001,
        on_change=told.append,
    )
    assert done.value == 2
    assert [t.state for t in told] == ["0", "1", "2"]
    assert done.transitions == tuple(told)
    assert [t.at_s for t in told] == sorted(t.at_s for t in told)
    assert str(done).startswith("2 after ")


def test_the_deadline_holds_the_last_state_and_the_way_there() -> None:
    values = iter(["a", "b"] + ["c"] * 1000)
    with pytest.raises(WaitTimeout, match=r"z: not after 0.05 s") as caught:
        wait(
            lambda: next(values),
            what="z",
            ready=lambda v: v == "z",
            describe=lambda v: v,
            timeout_s=0.05,
            every_s=0.001,
            fix=lambda last: (f"stuck at {last}", "push"),
        )
    assert caught.value.context["last"] == "c"
    assert [t.split("  ")[-1] for t in caught.value.context["transitions"]] == ["a", "b", "c"]
    assert (caught.value.why, caught.value.fix) == ("stuck at c", "push")


def test_one_poll_even_without_time() -> None:
    assert wait(lambda: 1, what="", ready=bool, describe=str, timeout_s=0).value == 1


def test_an_early_failure_ends_it_with_the_same_facts() -> None:
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


def test_a_silence_is_sat_out_once_a_first_word_has_come() -> None:
    answers = iter([1, Unreachable("away"), Unreachable("away"), 2])

    def poll() -> int:
        answer = next(answers)
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    done = wait(poll, what="two", ready=lambda v: v == 2, describe=str, timeout_s=9, every_s=0.001)
    assert [t.state for t in done.transitions] == ["1", "2"]


def test_a_silence_from_the_start_or_without_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = iter([1])

    def poll() -> int:
        for value in heard:
            return value
        raise Unreachable("away")

    monkeypatch.setattr("qwenkit.cluster.wait.SILENCE_S", 0.01)
    waiting = {"what": "x", "ready": lambda _v: False, "describe": str, "every_s": 0.001}
    for _ in range(2):  # the first time after a word, the second time without one
        with pytest.raises(Unreachable):
            wait(poll, timeout_s=9, **waiting)  # type: ignore[arg-type]
