"""Long traffic in windows: nothing counts twice, and the figures are near those of the whole."""

from __future__ import annotations

import math

import pytest

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.capacity.search.candidates import ScalingChoice, judge
from qwenkit.capacity.search.windows import replay
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import FixedServer, VllmServer
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import ClosedLoop, Lengths, OpenLoop, poisson, varying
from qwenkit.errors import InvalidValue

V100 = VllmServer("V100-16", "Qwen-7B-Chat-Int8")
SPEC = parse_spec({PREFIX + "target": "4", PREFIX + "min-scale": "1", PREFIX + "max-scale": "6"})
EIGHT = Environment(gpus=8, startup_s=50)


def four_hours() -> OpenLoop:
    """Return a night and a day of two hours each, from quiet to busy and back."""
    return varying(
        lambda at: 1 - 0.9 * math.cos(math.pi * at / 7200),
        1.9,
        14_400,
        lengths=Lengths(256, 64, 0.5),
    )


def test_windows_stand_for_the_whole() -> None:
    load = four_hours()
    part = replay(load, V100, EIGHT.startup_s)
    some, whole = part.run(SPEC, V100, EIGHT), simulate(SPEC, load, V100, environment=EIGHT)
    assert "3 windows of 13 minutes" in part.basis
    assert list(some.t) == list(range(3 * 13 * 60 + 1))
    choice = ScalingChoice(4, 0, 1, 6)
    near, far = judge(choice, some), judge(choice, whole)
    assert near.cost_per_hour == pytest.approx(far.cost_per_hour, rel=0.2)
    # The windows are busier than the whole: there, more prompts delay the tokens of others.
    assert near.tpot_p95_s == pytest.approx(far.tpot_p95_s, rel=0.25)
    assert near.ttft_p95_s == pytest.approx(far.ttft_p95_s, rel=0.3)
    assert max(some.ready) == pytest.approx(max(whole.ready), abs=1)
    assert all(0 <= tick.t <= some.t[-1] for tick in some.decisions)


def test_what_settles_counts_in_nothing_and_changes_nothing_after_it() -> None:
    load = poisson(1.5, 400, seed=3)
    whole = simulate(SPEC, load, V100, environment=EIGHT, duration_s=400)
    less = simulate(SPEC, load, V100, environment=EIGHT, duration_s=400, settling=[(100, 250)])
    assert list(less.ready) == [*whole.ready[:101], *whole.ready[251:]]
    assert list(less.t) == list(range(251))
    middle = simulate(SPEC, load, V100, environment=EIGHT, duration_s=250)
    before = simulate(SPEC, load, V100, environment=EIGHT, duration_s=100)
    for figure in (lambda each: each.gpu_seconds, lambda each: len(each.requests)):
        assert figure(less) == figure(whole) - figure(middle) + figure(before)
    assert [tick.t for tick in less.decisions] == [
        tick.t - 150 * (tick.t > 250) for tick in whole.decisions if not 100 < tick.t <= 250
    ]


def test_little_traffic_is_replayed_whole_and_clients_are_cut_too() -> None:
    few = poisson(1.0, 900)
    assert replay(few, V100, 50).traffic is few
    assert not replay(few, V100, 50).basis
    fixed = FixedServer(1.0)
    chat = ClosedLoop(((0, 1), (6000, 5), (12_000, 2), (20_000, 0)))
    part = replay(chat, fixed, 20)
    assert part.settling[0] == (0, part.settling[0][1])
    assert {count for _, count in part.traffic.schedule} == {1, 2, 5}
    assert max(part.run(SPEC, fixed, EIGHT).clients) == 5
    night = OpenLoop((*few.arrivals, few.arrivals[-1]._replace(at=400_000.0)))
    quiet = replay(night, fixed, 20).run(SPEC, fixed, EIGHT)
    assert len(quiet.requests) > 0
    endless = ClosedLoop(((0, 1), (1e9, 0)))
    with pytest.raises(InvalidValue, match="duration_s"):
        replay(endless, fixed, 20).run(SPEC, fixed, EIGHT)
