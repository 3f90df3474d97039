"""How fast is the simulator: a day, a recommendation for it, a what-if, all autoscalers, decisions.

    python benchmarks/simulate.py [--rounds 5] [--no-profile]

Prints JSON. CPU seconds of one core, pure Python, median of the rounds; goals beside the figures.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import math
import platform
import pstats
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.autoscaling.kpa import TICK_S, Decider
from qwenkit.capacity.search.autoscalers import AutoscalerComparison, compare_autoscalers
from qwenkit.capacity.search.candidates import Candidate, Objective, judge
from qwenkit.capacity.search.recommend import Recommendation, recommend
from qwenkit.capacity.search.windows import Replay, replay
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.result import SimulationResult
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import Lengths, OpenLoop, bursts, poisson, varying

DAY_GOAL_S, WHAT_IF_GOAL_MS, COMPARE_GOAL_S, RECOMMEND_GOAL_S = 4.0, 100.0, 10.0, 3.0
LENGTHS = Lengths(256, 128, spread=0.5)
WHAT_IFS = 20  # settings tried in each round


def spec(**keys: str) -> ScalingSpec:
    """Return the settings of the benchmark with some of them changed."""
    settings = {"target": "8", "max-scale": "8"} | keys
    return parse_spec({PREFIX + key: value for key, value in settings.items()})


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU time of a call, one core's, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def a_day_of(requests: float) -> OpenLoop:
    """Return a day's arrivals on a sine, quiet at both ends."""
    mean = requests / 86_400

    def rate(at: float) -> float:
        return mean * (1 - 0.9 * math.cos(2 * math.pi * at / 86_400))

    return varying(rate, 1.9 * mean, 86_400, lengths=LENGTHS, seed=1)


def day(rounds: int, server: VllmServer, profile: bool) -> dict[str, Any]:
    """Simulate 86,400 s with about 100,000 requests and at most 8 pods."""

    def run(traffic: OpenLoop) -> SimulationResult:
        return simulate(spec(), traffic, server, environment=Environment(gpus=8), duration_s=86_400)

    making = [timed(lambda: a_day_of(100_000)) for _ in range(rounds)]
    traffic = making[-1][1]
    runs = [timed(lambda: run(traffic)) for _ in range(rounds)]
    result = runs[-1][1]
    seconds = median(taken for taken, _ in runs)
    report: dict[str, Any] = {
        "simulate_s": round(seconds, 3),
        "goal_s": DAY_GOAL_S,
        "met": seconds <= DAY_GOAL_S,
        "make_traffic_s": round(median(taken for taken, _ in making), 3),
        "requests": len(traffic.arrivals),
        "decisions": len(result.decisions),
        "max_ready": max(result.ready),
    }
    if profile:
        report["profile"] = hot(lambda: run(traffic))
    return report


def recommendation(rounds: int, server: VllmServer) -> dict[str, Any]:
    """Search settings for the day, in windows and, once, on the whole day."""
    traffic, there = a_day_of(100_000), Environment(gpus=8)

    def search(part: Replay) -> Recommendation:
        with patch("qwenkit.capacity.search.recommend.replay", lambda *_, **__: part):
            return recommend(
                server, traffic=traffic, objective=Objective(), environment=there, gpus=8
            )

    def whole_day(found: Recommendation) -> Candidate:
        return judge(found.chosen.choice, simulate(found.spec, traffic, server, environment=there))

    windows = replay(traffic, server, 50)
    runs = [timed(lambda: search(windows)) for _ in range(rounds)]
    seconds, found = median(taken for taken, _ in runs), runs[-1][1]
    whole_s, whole = timed(lambda: search(Replay(traffic)))
    return {
        "recommend_s": round(seconds, 2),
        "goal_s": RECOMMEND_GOAL_S,
        "met": seconds <= RECOMMEND_GOAL_S,
        "whole_day_s": round(whole_s, 1),
        "times_faster": round(whole_s / seconds, 1),
        "basis": windows.basis,
        "chosen": str(found.chosen.choice),
        "chosen_on_the_whole_day": str(whole.chosen.choice),
        "cost_of_the_day_more": round(
            whole_day(found).cost_per_hour / whole_day(whole).cost_per_hour - 1, 3
        ),
    }


def hot(work: Callable[[], Any]) -> list[dict[str, Any]]:
    """Return where the time goes: the functions with the most time of their own."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler)
    total = sum(entry[2] for entry in stats.stats.values())  # type: ignore[attr-defined]
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:8]  # type: ignore[attr-defined]
    return [
        {
            "function": f"{Path(file).stem}.{name}" if line else name,
            "calls": calls,
            "share": round(own / total, 3),
        }
        for (file, line, name), (_, calls, own, _, _) in rows
    ]


def what_if(rounds: int, server: VllmServer) -> dict[str, Any]:
    """Simulate 15 minutes for many settings, as a slider does."""
    traffic = poisson(1.0, 900, lengths=LENGTHS, seed=2)
    environment = Environment(gpus=3)
    times = []
    for _ in range(rounds):
        for number in range(WHAT_IFS):
            tried = spec(target=str(1 + number % 10), window=f"{60 + 30 * (number % 3)}s")
            times.append(
                timed(
                    lambda tried=tried: simulate(tried, traffic, server, environment=environment)
                )[0]
            )
    times.sort()
    p95 = times[math.ceil(0.95 * len(times)) - 1] * 1e3
    return {
        "p50_ms": round(median(times) * 1e3, 1),
        "p95_ms": round(p95, 1),
        "goal_p95_ms": WHAT_IF_GOAL_MS,
        "met": p95 <= WHAT_IF_GOAL_MS,
        "requests": len(traffic.arrivals),
    }


def autoscalers(rounds: int, server: VllmServer) -> dict[str, Any]:
    """Compare HPA, KPA and KEDA at all their targets on the course's hour, three seeds."""

    def run() -> AutoscalerComparison:
        return compare_autoscalers(
            server,
            lambda seed: bursts(0.02, 0.5, 3600, every_s=900, burst_s=60, seed=seed),
            objective=Objective(ttft_p95_s=5),
            gpus=3,
            seeds=(0, 1, 2),
        )

    runs = [timed(run) for _ in range(rounds)]
    seconds = median(taken for taken, _ in runs)
    return {
        "compare_s": round(seconds, 2),
        "goal_s": COMPARE_GOAL_S,
        "met": seconds <= COMPARE_GOAL_S,
        "settings": len(runs[0][1].outcomes),
        "gpu_hours": {each.autoscaler: round(each.gpu_hours, 2) for each in runs[0][1].named()},
    }


def decider(rounds: int) -> dict[str, Any]:
    """Let the bare decider see a sample each second and decide every two."""

    def run(settings: ScalingSpec) -> int:
        kpa, decisions = Decider(settings, ready=1, now=0.0), 0
        for second in range(40_000):
            kpa.record(second, 5 + 5 * math.sin(second / 50), 1.0)
            if second % TICK_S == 0:
                kpa.decide(second + 0.5, 3)
                decisions += 1
        return decisions

    rates = {}
    for algorithm in ("linear", "weighted-exponential"):
        settings = spec(**{"metric-aggregation-algorithm": algorithm})
        runs = [timed(lambda settings=settings: run(settings)) for _ in range(rounds)]
        rates[algorithm] = round(median(decisions / taken for taken, decisions in runs))
    return rates


def main() -> int:
    """Run all and print JSON; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-profile", action="store_true")
    parser.add_argument("--json", action="store_true", help="the output is JSON in any case")
    options = parser.parse_args()
    server = VllmServer("V100-16", "Qwen-7B-Chat-Int8")
    report = {
        "benchmark": "simulate",
        "python": platform.python_version(),
        "rounds": options.rounds,
        "day": day(options.rounds, server, not options.no_profile),
        "recommendation": recommendation(options.rounds, server),
        "what_if_15_min": what_if(options.rounds, server),
        "autoscalers": autoscalers(options.rounds, server),
        "decisions_per_s": decider(options.rounds),
    }
    print(json.dumps(report, indent=2))
    goals = ("day", "recommendation", "what_if_15_min", "autoscalers")
    return 0 if all(report[name]["met"] for name in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
