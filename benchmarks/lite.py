"""How soon the tuning panel answers a slider in the site's own Python: from the key to the chart.

    make site && python benchmarks/lite.py [--moves 40] [--json]

Prints JSON; wall-clock time in milliseconds. Chromium opens the built site, in which Python runs in
the page: ``open`` is from the address to a kernel that waits, ``run`` the time of all cells, and
``redraw`` from the key on a slider's handle until the chart is drawn anew.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import sys
import threading
import time
from pathlib import Path

import panel

SITE = panel.ROOT / "build" / "site"
NOTEBOOK = "lite/lab/index.html?path=lite/autoscaling.ipynb"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files as ``python -m http.server`` does, without a line a request."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def measure(moves: int) -> dict[str, object]:
    """Open the notebook, run it and move its sliders by keyboard."""
    sys.path.insert(0, str(panel.ROOT / "tests" / "browser"))
    import lab

    handler = functools.partial(Quiet, directory=str(SITE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with lab.chromium(1440) as page:
            began = time.perf_counter()
            page.goto(f"http://127.0.0.1:{server.server_port}/{NOTEBOOK}")
            lab.expect(page.locator(".jp-StatusBar-Widget")).to_contain_text("| Idle")
            opened = time.perf_counter()
            lab.run_cells(page)
            page.locator(".jp-OutputArea-output", has_text="SHA-256").wait_for(timeout=300_000)
            done = time.perf_counter()
            page.locator(".qwenkit-tuner").scroll_into_view_if_needed()
            times = panel.moved(page, moves)
            return {
                "open_s": round(opened - began, 1),
                "run_s": round(done - opened, 1),
                "redraw": panel.figures(times),
            }
    finally:
        server.shutdown()


def main() -> int:
    """Measure and print JSON; exit 1 if the goal is missed, 2 if there is no site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="the output is JSON in any case")
    options = parser.parse_args()
    if not (Path(SITE) / "lite").is_dir():
        print("build/site is not there: make site builds it", file=sys.stderr)
        return 2
    measured = measure(options.moves)
    report = {"benchmark": "lite", "moves": options.moves, **measured, "goal_p95_ms": panel.GOAL_MS}
    met = measured["redraw"]["p95_ms"] <= panel.GOAL_MS
    print(json.dumps(report | {"met": met}, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
