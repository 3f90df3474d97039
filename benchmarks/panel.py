"""How soon the what-if panel answers a slider: simulation, sentence and picture.

    python benchmarks/panel.py [--moves 30] [--json]

Prints JSON; wall-clock time in milliseconds. ``move`` is one slider's way through the panel as
JupyterLab takes it, ``first_show`` the panel's first appearance in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from qwenkit.widgets.whatif import WhatIf

GOAL_MS = 150.0
ANNOTATIONS = {
    "autoscaling.knative.dev/target": "2",
    "autoscaling.knative.dev/max-scale": "3",
}


def milliseconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took, and its result."""
    start = time.perf_counter()
    result = work()
    return round((time.perf_counter() - start) * 1e3, 1), result


def slider_moves(panel: WhatIf, count: int) -> list[float]:
    """Move one slider after the other, as a person would; return the time of each answer."""
    controls = panel.controls
    wanted = {"target": 1.0, "clients": 12, "window_s": 60, "max_scale": 4}
    times = []
    for number in range(count):
        name = list(wanted)[number % len(wanted)]
        value = wanted[name] + number // len(wanted)
        times.append(
            milliseconds(lambda name=name, value=value: set_value(controls[name], value))[0]
        )
    return times


def set_value(control: Any, value: float) -> None:
    """Move a slider as its front end does; the panel answers before this returns."""
    control.value = value


def main() -> int:
    """Measure and print JSON; exit 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="the output is JSON in any case")
    options = parser.parse_args()
    make_ms, panel = milliseconds(lambda: WhatIf(ANNOTATIONS, gpu="V100-16"))
    show_ms, _ = milliseconds(panel._repr_mimebundle_)
    times = sorted(slider_moves(panel, options.moves))
    p95 = times[math.ceil(0.95 * len(times)) - 1]
    report = {
        "benchmark": "panel",
        "python": platform.python_version(),
        "make_ms": make_ms,
        "first_show_ms": show_ms,
        "moves": len(times),
        "move_median_ms": round(median(times), 1),
        "move_p95_ms": p95,
        "move_worst_ms": times[-1],
        "goal_p95_ms": GOAL_MS,
        "met": p95 <= GOAL_MS,
    }
    print(json.dumps(report, indent=2))
    return 0 if report["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
