"""What does a request of load cost, and how true are its times? This generator beside others.

    python benchmarks/load.py --json

All of them load the same local server (``load_server.py``), one after the other, each in a process
of its own: 200 streams of 64 tokens, 50 ms apart, each client sending again when it is answered.
``requests_per_cpu_s`` is of user and system time, child processes included; what a process costs
before its first requests is taken off by a short run (``start_cpu_s``). ``ratios.to_the_best`` is
this generator's beside the best of the others. Then ``accuracy``: an open loop of about 200
streams, and for each request what the client measured beside the server's own stamps:
``first_token`` (both times of the first token, on one clock), ``ttft`` (the difference of both
TTFTs, the request's way included) and ``schedule_delay``. ``server_late`` shows how late this
machine wakes a process that waits; where it may (``real_time``), this part goes before all else of
the machine. ``tokens_equal``: each counted as many tokens as the server sent.

A generator is compared if a variable names the Python of its environment:

    QWENKIT_BENCH_VLLM      aiohttp regex tqdm, and vllm, or of its wheel vllm/benchmarks/lib alone
    QWENKIT_BENCH_LOCUST    locust
    QWENKIT_BENCH_GUIDELLM  guidellm (6 GB)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

PEERS = {"vllm": "VLLM", "locust": "LOCUST", "guidellm": "GUIDELLM"}
GOALS = {"to_the_best": 2.0, "ttft_p99_ms": 2.0, "schedule_delay_p50_ms": 1.0}
HERE = Path(__file__).parent
TTFT_S, ITL_S, TOKENS = 0.05, 0.05, 64


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run the server in a process of its own; yields its URL."""
    command = [sys.executable, str(HERE / "load_server.py"), "--ttft", str(TTFT_S)]
    with subprocess.Popen(
        [*command, "--itl", str(ITL_S)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()


def stamps(url: str) -> list[dict[str, Any]]:
    """Return what the server noted since the last call."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/stamps") as answer:
        found: list[dict[str, Any]] = json.load(answer)["requests"]
    return found


def run(name: str, python: str, url: str, **job: Any) -> tuple[float, dict[str, Any]]:
    """Run a generator; return its CPU seconds and what it printed, with the server's stamps."""
    stamps(url)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [python, str(HERE / "load_peers.py"), name, json.dumps({"url": url, **job})]
    done = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(done.stdout.splitlines()[-1])
    return cpu_s, found | {"server": stamps(url)}


def cost(name: str, python: str, url: str, *, streams: int, rounds: int) -> dict[str, Any]:
    """Return what a request costs a generator, without what it costs to start it."""
    asked = {"tokens": TOKENS, "streams": streams, "request_s": TTFT_S + (TOKENS - 1) * ITL_S}
    start_cpu_s, first = run(name, python, url, requests=streams, **asked)
    cpu_s, found = run(name, python, url, requests=streams * (1 + rounds), **asked)
    sent = [sum(len(one["sent_s"]) for one in each["server"]) for each in (first, found)]
    net = len(found["server"]) - len(first["server"])
    return {
        "requests_per_cpu_s": round(net / (cpu_s - start_cpu_s), 1),
        "cpu_us_per_token": round(1e6 * (cpu_s - start_cpu_s) / (sent[1] - sent[0]), 1),
        "start_cpu_s": round(start_cpu_s, 2),
        "requests": len(found["server"]),
        "tokens_equal": [first["tokens"], found["tokens"]] == sent,
    }


def accuracy(name: str, python: str, url: str, *, streams: int) -> dict[str, Any]:
    """Return how far a generator's times are from the server's, in milliseconds."""
    rng, at, arrivals = Random(1), 0.0, list[float]()
    for _ in range(4 * streams):
        arrivals.append(at)
        at += rng.expovariate(streams / (TTFT_S + TOKENS * ITL_S))
    _, found = run(name, python, url, tokens=TOKENS, arrivals=arrivals)
    noted = {int(one["id"].rpartition("-")[2]): one for one in found["server"]}
    pairs = [(one, noted[one["id"]]) for one in found["sent"]]
    events = [(one["received_s"], 1) for one in found["server"]]
    events += [(one["sent_s"][-1], -1) for one in found["server"]]
    running = most = 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    return {
        "most_streams": most,
        "first_token_ms": spread([ours["first_s"] - its["sent_s"][0] for ours, its in pairs]),
        "ttft_ms": spread(
            [abs(ours["ttft_s"] - its["sent_s"][0] + its["received_s"]) for ours, its in pairs]
        ),
        "schedule_delay_ms": spread([ours["delay_s"] for ours, _ in pairs]),
        "server_late_ms": spread([its["sent_s"][0] - its["due_s"] for its in found["server"]]),
        "tokens_equal": found["tokens"] == sum(len(one["sent_s"]) for one in found["server"]),
    }


def spread(seconds: list[float]) -> dict[str, float]:
    """Return median and 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    ranks = {"p50": len(ordered) // 2, "p99": min(len(ordered) - 1, int(0.99 * len(ordered)))}
    return {name: round(1000 * ordered[rank], 3) for name, rank in ranks.items()}


def go_first() -> bool:
    """Let what starts from now on run before all else of this machine, if this user may."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, PermissionError):  # not Linux, or not root
        return False
    return True


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="requests of each stream")
    parser.add_argument("--json", action="store_true", help="it is JSON in any case")
    given = parser.parse_args()
    pythons = {"qwenkit": sys.executable}
    found = {name: os.environ.get(f"QWENKIT_BENCH_{end}", "") for name, end in PEERS.items()}
    pythons |= {name: python for name, python in found.items() if python}
    absent = {name: f"QWENKIT_BENCH_{PEERS[name]} is not set" for name in found.keys() - pythons}
    with serving() as url:
        costs = {
            name: cost(name, python, url, streams=given.streams, rounds=given.rounds)
            for name, python in pythons.items()
        }
    real_time = go_first()
    with serving() as url:
        times = {
            name: accuracy(name, python, url, streams=given.streams)
            for name, python in pythons.items()
            if name in ("qwenkit", "vllm")
        }
    rates = {name: one["requests_per_cpu_s"] for name, one in costs.items()}
    best = max((rates[name] for name in rates.keys() - {"qwenkit"}), default=None)
    ours = times["qwenkit"]
    figures = {
        "to_the_best": None if best is None else round(rates["qwenkit"] / best, 2),
        "ttft_p99_ms": ours["ttft_ms"]["p99"],
        "schedule_delay_p50_ms": ours["schedule_delay_ms"]["p50"],
    }
    ratios = {name: round(rates["qwenkit"] / rate, 2) for name, rate in rates.items()}
    answer = {
        "generators": costs,
        "ratios": ratios | {"to_the_best": figures["to_the_best"]},
        "accuracy": times | {"real_time": real_time},
        "goals": GOALS,
        "figures": figures,
        "tokens_equal": all(one["tokens_equal"] for one in (*costs.values(), *times.values())),
        "absent": absent,
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(answer, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
