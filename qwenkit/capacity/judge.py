"""Judge the model of a GPU by what was measured on one.

    python -m qwenkit.capacity.judge [--fit FILE] --on FILE

Fits the speed of the card to the first file, predicts the second, and prints as JSON the mean
absolute errors in percent. The same points twice: each is predicted from all the others. Without
--fit: from the card's datasheet alone. Exit 0, or 2 for files that cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwenkit.capacity.calibration.errors import calibrate, mean_errors, predict
from qwenkit.capacity.calibration.points import Measurements
from qwenkit.errors import QwenkitError


def judge(fit: Measurements | None, on: Measurements) -> dict[str, Any]:
    """Return the errors of predictions; ``inside_band`` is the percentage that the band holds."""
    if fit is None:
        judged = predict(on)
        band = max((on.time(run).error for run in on.timed()), default=None)
    else:
        found = calibrate(fit)
        band, known = found.gpu.error, replace(on.gpu, kernels=found.gpu.kernels)
        other = replace(on, gpu=known).at(found.gpu.speed)
        judged = list(found.left_out) if fit == on else predict(other)
    worst = max(judged, key=lambda each: abs(each.error), default=None)
    inside = [abs(each.error) <= band for each in judged if band and each.metric != "kv"]
    return {
        **{f"{metric}_mape": _percent(share) for metric, share in mean_errors(judged).items()},
        "worst": worst and {**worst.where(), "error": _percent(worst.error)},
        "band": _percent(band),
        "inside_band": _percent(sum(inside) / len(inside)) if inside else None,
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m qwenkit.capacity.judge", description=(__doc__ or "").partition("\n")[0]
    )
    what = "measured points, as in tests/data/gpu, or a card's file"
    parser.add_argument("--fit", type=Path, metavar="FILE", help=f"{what}; default: the datasheet")
    parser.add_argument("--on", type=Path, metavar="FILE", required=True, help=what)
    options = parser.parse_args(arguments)
    try:
        fit = Measurements.read(options.fit, like=options.on) if options.fit else None
        on = Measurements.read(options.on, like=options.fit)
        print(json.dumps(judge(fit, on), indent=1))
    except QwenkitError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
