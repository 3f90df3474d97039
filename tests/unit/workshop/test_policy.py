"""Who gets a GPU, over any sequence of wishes, pods and rules."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qwenkit.cluster.gpu_slot import GpuSlot
from qwenkit.workshop.slots.hours import ClassHours, seconds_of_day
from qwenkit.workshop.slots.policy import decide
from qwenkit.workshop.slots.state import Ask, GpuPod, Slots

T0 = 1_800_000_000.0
PEOPLE = [f"p{number:02d}" for number in range(1, 7)]


class Classroom:
    """A cluster that obeys at once: pods start in granted slots, and end when they are drained."""

    def __init__(self, slots: Slots) -> None:
        self.slots, self.now, self.serial = slots, T0, 0
        self.asks: dict[str, Ask] = {}
        self.pods: dict[str, GpuPod] = {}
        self.waits: dict[str, float] = {}
        self.turn()

    def ask(self, who: str, gpus: int = 1, seconds: float = 600.0) -> None:
        self.serial += 1
        self.asks[who] = Ask(who, f"ask-{self.serial}", self.now, gpus, seconds)

    def change(self, who: str, **fields: object) -> None:
        self.asks[who] = replace(self.asks[who], **fields)

    def start(self, who: str, gpus: int = 1) -> None:
        self.serial += 1
        name = f"pod-{self.serial}"
        self.pods[name] = GpuPod(who, name, name, gpus, self.now)

    def end(self, who: str) -> None:
        self.pods = {name: pod for name, pod in self.pods.items() if pod.participant != who}

    def turn(self, seconds: float = 2.0) -> None:
        self.now += seconds
        wanted = tuple(self.asks.values())
        made = decide(self.now, self.slots, PEOPLE, wanted, tuple(self.pods.values()))
        self.slots, self.told, self.drained = made.slots, made.told, made.drain
        for pod in made.drain:
            self.pods[pod.name] = replace(pod, ending=True)
        for ask in made.drop:
            if self.asks.get(ask.participant, ask).uid == ask.uid:
                self.asks.pop(ask.participant, None)

    def holders(self) -> set[str]:
        return set(self.slots.grants)


steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "give back", "start", "end", "gone", "extend", "freeze", "free"]),
        st.sampled_from([*PEOPLE, "stranger"]),
        st.integers(-2, 9),
        st.floats(-10, 7200),
        st.floats(0.1, 400),
    ),
    max_size=60,
)


@given(st.integers(0, 4), steps)
def test_never_more_gpus_are_given_than_there_are(total, taken):
    room = Classroom(Slots(total))
    for what, who, gpus, seconds, pause in taken:
        if what == "ask":
            room.ask(who, gpus, seconds)
        elif what == "give back":
            room.asks.pop(who, None)
        elif what == "extend" and who in room.asks:
            room.change(who, gpus=gpus, seconds=seconds)
        elif what == "start" and who in room.slots.grants:  # the quota lets no other start
            used = sum(pod.gpus for pod in room.pods.values() if pod.participant == who)
            if used < room.slots.grants[who].gpus:
                room.start(who)
        elif what in ("end", "gone"):
            room.end(who)
        elif what == "freeze":
            room.slots = replace(room.slots, frozen=not room.slots.frozen)
        elif what == "free":
            room.slots = room.slots.freed(who)
        room.turn(pause)
        held: dict[str, int] = {}
        for pod in room.pods.values():
            held[pod.participant] = held.get(pod.participant, 0) + pod.gpus
        given_ = {who: grant.gpus for who, grant in room.slots.grants.items()}
        assert sum(max(given_.get(w, 0), held.get(w, 0)) for w in {*given_, *held}) <= total
        assert set(room.told) == set(PEOPLE)
        assert Slots.of({"data": room.slots.to_data()}) == room.slots
        for who, told in room.told.items():
            assert (told.slot == "granted") == (who in room.slots.grants)
            assert GpuSlot.of({"data": told.to_data()}) == told
        again = decide(room.now, room.slots, PEOPLE, room.asks.values(), tuple(room.pods.values()))
        assert (again.slots, again.told, again.drain) == (room.slots, room.told, ())


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.sampled_from(PEOPLE[1:]), st.integers(1, 3)), min_size=200, max_size=200)
)
def test_nobody_waits_for_ever_whatever_the_others_do(busy):
    """The others ask for a moment, without a single pod, and give back at once."""
    room = Classroom(Slots(2))
    room.slots = replace(room.slots, settled={PEOPLE[0]: 900.0})
    room.ask(PEOPLE[0], 2)
    for turn, (who, gpus) in enumerate(busy):
        if PEOPLE[0] in room.holders():
            return
        for holder in room.holders():
            del room.asks[holder]
        if who not in room.asks:
            room.ask(who, gpus, 1)
        room.turn()
        assert turn < 150
    room.turn()


@given(st.permutations(PEOPLE), st.lists(st.floats(0, 9000), min_size=6, max_size=6))
def test_whoever_used_least_is_first(order, used):
    room = Classroom(Slots(1, settled=dict(zip(PEOPLE, used, strict=True))))
    for who in order:
        room.ask(who)
    room.turn()
    positions = {told.position: who for who, told in room.told.items()}
    places = [*room.holders(), *(positions[place] for place in range(1, 6))]
    assert [used[PEOPLE.index(who)] for who in places] == sorted(used)


def test_of_equals_the_oldest_wish_is_first_and_told_when():
    room = Classroom(Slots(1))
    for who in ("p03", "p01", "p02"):
        room.ask(who)
        room.turn()
    began = room.slots.grants["p03"].since
    assert room.told["p03"] == GpuSlot("granted", 1, until=began + 600, ask="ask-1")
    first, second = room.told["p01"], room.told["p02"]
    assert (first.position, first.expected_at) == (1, began + 600)
    assert (second.position, second.expected_at) == (2, began + 1200)
    assert room.told["p04"] == GpuSlot()


def test_a_wish_for_more_gpus_waits_at_the_head_and_nobody_overtakes_it():
    room = Classroom(Slots(2))
    room.ask("p01")
    room.turn()
    room.ask("p02", 2)
    room.turn()
    room.ask("p03", 1)
    room.turn()
    assert room.holders() == {"p01"}
    del room.asks["p01"]
    room.turn()
    assert room.holders() == {"p02"}


def test_a_slot_is_given_anew_only_when_the_pods_of_the_last_one_are_gone():
    room = Classroom(Slots(1))
    room.ask("p01", seconds=100)
    room.turn()
    room.start("p01")
    room.ask("p02")
    room.turn(101)
    assert [pod.participant for pod in room.drained] == ["p01"]
    assert not room.holders()
    assert "p01" not in room.asks  # served
    room.turn()
    assert not room.holders()
    room.end("p01")
    room.turn()
    assert room.holders() == {"p02"}


def test_a_slot_without_a_pod_ends_and_one_with_a_pod_does_not():
    room = Classroom(Slots(2, idle_minutes=5))
    room.ask("p01", seconds=3600)
    room.ask("p02", seconds=3600)
    room.turn()
    room.start("p02")
    room.turn(200)
    assert room.holders() == {"p01", "p02"}
    room.turn(101)
    assert room.holders() == {"p02"}
    room.end("p02")
    room.turn()
    room.turn(301)
    assert not room.holders()


def test_a_slot_is_extended_while_nobody_waits_and_at_most_by_the_rule():
    room = Classroom(Slots(1, most_minutes=30))
    room.ask("p01", seconds=600)
    room.turn()
    began = room.slots.grants["p01"].since
    room.change("p01", seconds=900)
    room.turn()
    assert room.slots.grants["p01"].until == began + 900
    room.ask("p02")
    room.change("p01", seconds=1200)
    room.turn()
    assert room.slots.grants["p01"].until == began + 900
    del room.asks["p02"]
    room.change("p01", seconds=36_000, gpus=5)
    room.turn()
    assert room.slots.grants["p01"].until == began + 1800
    assert room.slots.grants["p01"].gpus == 1


def test_a_smaller_slot_drains_the_newest_pods():
    room = Classroom(Slots(3))
    room.ask("p01", 3)
    room.turn()
    for _ in range(3):
        room.start("p01")
        room.turn(1)
    room.change("p01", gpus=1)
    room.turn()
    room.turn()
    assert sum(not pod.ending for pod in room.pods.values()) == 1
    assert not min(room.pods.values(), key=lambda pod: pod.since).ending


def test_frozen_all_wait_with_their_wishes_and_go_on_later():
    room = Classroom(Slots(1, note="listen"))
    room.ask("p01")
    room.turn()
    room.start("p01")
    room.slots = replace(room.slots, frozen=True)
    room.turn()
    assert not room.holders()
    assert len(room.drained) == 1
    told = room.told["p01"]
    assert (told.slot, told.closed, told.frozen, told.note) == ("waiting", "frozen", True, "listen")
    room.end("p01")
    room.slots = replace(room.slots, frozen=False)
    room.turn()
    assert room.holders() == {"p01"}


def test_the_budget_ends_the_day_before_it_is_overspent():
    room = Classroom(Slots(2, budget_gpu_hours=0.5))
    for who in ("p01", "p02"):
        room.ask(who, seconds=3600)
        room.turn()
        room.start(who)
    for _ in range(1000):
        room.turn()
        if room.slots.ended:
            break
    assert (room.slots.ended, room.told["p03"].closed) == ("budget", "budget")
    assert 0.9 * 1800 - 240 <= sum(room.slots.used().values()) <= 1800 - 240 + 8
    assert not room.asks
    room.ask("p03")
    room.turn()
    assert not room.holders()


def test_after_class_all_slots_end_and_in_the_morning_the_early_ones_are_warm():
    hours = ClassHours(seconds_of_day("09:00"), seconds_of_day("17:00"), 8 * 3600, 900)
    room = Classroom(Slots(1, hours=hours))
    room.now = T0 - (T0 + 8 * 3600) % 86_400 + seconds_of_day("16:50")
    room.ask("p01", seconds=3600)
    room.ask("p02", seconds=3600)
    room.turn()
    assert room.told["p01"].ends_at == pytest.approx(room.now + 598)
    room.turn(600)
    assert not room.holders()
    assert not room.asks
    room.ask("p02")
    room.turn(60)
    assert (room.told["p02"].slot, room.told["p02"].closed) == ("waiting", "hours")
    room.now += 15.6 * 3600  # 08:37
    room.turn()
    assert not room.holders()
    room.turn(600)
    assert room.holders() == {"p02"}


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.floats(30, 900), st.floats(30, 900)), min_size=5, max_size=40),
    st.integers(0, 2**32),
)
def test_the_ledger_agrees_with_the_pods_own_seconds(lives, seed):
    """Pods begin and end between two looks; most look-ups see neither moment."""
    slots, own, now = Slots(9), 0.0, T0
    events: list[tuple[float, str, float]] = []
    for number, (pause, life) in enumerate(lives):
        begins = T0 + pause + number * 0.37 + seed % 7 * 0.1
        events.append((begins, f"pod-{number}", begins + life))
        own += life
    while now < T0 + 2000:
        now += 2.0
        pods = [GpuPod("p01", uid, uid, 1, a) for a, uid, b in events if a <= now < b]
        slots = decide(now, slots, PEOPLE, (), pods).slots
    assert slots.used()["p01"] == pytest.approx(own, rel=0.02)


@pytest.mark.parametrize("text", ["9", "25:00", "09:60", "ab:cd", "09:0", ""])
def test_what_is_no_time_of_day_is_refused(text):
    with pytest.raises(Exception, match="time of day"):
        seconds_of_day(text)
