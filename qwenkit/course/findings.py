"""What a run found, read from its summary: the verdict, key figures and tables of the report.

A summary may be of any run: partial, failed, of another cluster, of notebooks of your own.
What is not there, or is not what it should be, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Summary = Mapping[str, Any]
_NAMED = ("model_source", "image", "service", "namespace", "max_model_len", "quantization", "dtype")
_MORE_SCALING = (
    "target_utilization_percentage",
    "target_burst_capacity",
    "panic_threshold_percentage",
    "panic_window_percentage",
    "scale_down_delay",
    "scale_to_zero_pod_retention_period",
)


@dataclass(frozen=True)
class Figure:
    """A figure of the load: its key in the record of 06, its name and unit, and which way is up.

    ``better`` is -1 if less is better, 1 if more is, 0 if neither.
    """

    key: str
    name: str
    unit: str
    better: int


FIGURES = (
    Figure("ttft_p50_s", "TTFT p50", "s", -1),
    Figure("ttft_p95_s", "TTFT p95", "s", -1),
    Figure("latency_p95_s", "latency p95", "s", -1),
    Figure("goodput_per_s", "goodput", "requests/s", 1),
    Figure("goodput_share", "within the objective", "%", 1),
    Figure("tokens_per_second", "throughput", "tokens/s", 1),
    Figure("max_ready", "replicas, at most", "", 0),
    Figure("gpu_seconds", "GPU time", "s", -1),
    Figure("cost_cny", "cost of the load", "CNY", -1),
    Figure("cny_per_million_tokens", "cost per million tokens", "CNY", -1),
)


def result(summary: Summary, number: str) -> Mapping[str, Any]:
    """Return what the notebook of a number recorded; nothing if it did not run."""
    for notebook in summary["notebooks"]:
        if notebook["name"].startswith(number):
            return part(notebook, "result")
    return {}


def part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a mapping inside a record; an empty one if there is none."""
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def number(value: object) -> float | None:
    """Return a finite number, or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def show(value: object, unit: str = "") -> str:
    """Write a figure for people: three digits and its unit; shares in percent; a dash for none."""
    found = number(value)
    if found is None:
        return "–"
    scaled = found * 100 if unit == "%" else found
    digits = f"{scaled:,.0f}" if abs(scaled) >= 100 else f"{scaled:.3g}"
    return f"{digits} {unit}".strip()


def cold_start(summary: Summary) -> float | None:
    """Return the seconds of the cold start: as recorded, else the sum of its steps."""
    record = result(summary, "03")
    steps = [number(seconds) for seconds in part(record, "cold_start").values()]
    whole = number(record.get("cold_start_s"))
    return whole if whole is not None else sum(filter(None, steps)) or None


def final(summary: Summary) -> Mapping[str, Any]:
    """Return the last measurement of the load: after the change of settings, if there was one."""
    record = result(summary, "06")
    return part(record, "after") or part(record, "measured")


def objective(summary: Summary) -> tuple[float, float] | None:
    """Return the TTFT p95 that was measured last and the one that was asked for, in seconds."""
    found = number(final(summary).get("ttft_p95_s"))
    asked = number(part(result(summary, "06"), "objective").get("ttft_p95_s"))
    return None if found is None or asked is None else (found, asked)


def verdict(summary: Summary) -> tuple[bool, str]:
    """Return the headline, and whether it is a good one."""
    run, count = summary, f"{summary['passed']}/{summary['total']} notebooks passed"
    if run["interrupted"]:
        return False, f"Interrupted: {count}"
    failed = [n for n in run["notebooks"] if not n["passed"] and not n.get("skipped")]
    if failed:
        return False, f"{failed[0]['name']} failed: {count}"
    if not run["ok"]:
        return False, f"Not clean: {count}"
    met = objective(summary)
    if met is None:
        return True, f"Passed: {count}"
    found, asked = (show(value, "s") for value in met)
    if met[0] <= met[1]:
        return True, f"Objective met: TTFT p95 {found} of at most {asked}"
    return False, f"Objective missed: TTFT p95 {found}, at most {asked} was asked for"


def key_figures(summary: Summary) -> Iterator[tuple[str, str, bool]]:
    """Yield what a reader wants first: a figure, what it is, and whether it is a bad one."""
    last, met = final(summary), objective(summary)
    if met:
        yield show(met[0], "s"), f"TTFT p95, at most {show(met[1], 's')} asked for", met[0] > met[1]
    if (most := number(last.get("max_ready"))) is not None:
        gpus = most * (number(part(summary, "settings").get("gpu_count")) or 1)
        yield show(gpus), f"GPU{'s' * (gpus != 1)} at most", False
    if (price := number(last.get("cny_per_million_tokens"))) is not None:
        yield show(price, "CNY"), "per million tokens, at an example price", False
    if (seconds := cold_start(summary)) is not None:
        yield show(seconds, "s"), "cold start of a replica", False
    bad = summary["passed"] < summary["total"] or not summary["total"]
    yield f"{summary['passed']}/{summary['total']}", "notebooks passed", bad
    if summary["leaks"] is not None:
        yield str(len(summary["leaks"]) or "nothing"), "left behind", bool(summary["leaks"])


def effect(summary: Summary) -> str:
    """Say in a sentence what the change of settings brought; nothing if there was none."""
    record = result(summary, "06")
    before, after, changed = (part(record, name) for name in ("measured", "after", "changed"))
    shown = [
        f"{each.name} {show(before[each.key], each.unit)} → {show(after[each.key], each.unit)}"
        for each in FIGURES
        if each.key in ("ttft_p95_s", "goodput_share", "cny_per_million_tokens")
        and None not in (number(before.get(each.key)), number(after.get(each.key)))
    ]
    to = ", ".join(f"{str(key).rpartition('/')[2]} {value}" for key, value in changed.items())
    return f"The change to {to}: {', '.join(shown)}." if to and shown else ""


def clock(summary: Summary) -> str:
    """Say how much faster than the modelled GPU the run was; nothing on a cluster."""
    scale = number(result(summary, "06").get("clock"))
    if scale is None or scale == 1:
        return ""
    return (
        f"Clock × {scale:g}: the sandbox ran {scale:g} times faster than the GPU that it models, "
        "with a stand-in for the model."
    )


def deployed(summary: Summary) -> Iterator[tuple[str, str]]:
    """Yield what was deployed, name by name: the server, its GPU, revision and scaling."""
    given = part(summary, "settings")
    for name in _NAMED:
        if given.get(name) not in (None, ""):
            yield name.replace("_", " "), str(given[name])
    if "gpu" in given:
        yield "GPU of a replica", f"{given.get('gpu_count', 1)} × {given['gpu']}"
    applied = result(summary, "03")
    for label, value in (
        ("GPUs found", result(summary, "00").get("gpus")),
        ("revision", applied.get("revision")),
        ("revision after 05", result(summary, "05").get("new_revision")),
        ("address", applied.get("url")),
    ):
        if value:
            yield label, str(value)
    if "scale_metric" in given:
        yield "scaling", ", ".join(_scaling(given))
    for key, value in part(result(summary, "06"), "changed").items():
        yield f"06 changed {str(key).rpartition('/')[2]}", str(value)


def _scaling(given: Mapping[str, Any]) -> Iterator[str]:
    target, most = number(given.get("scale_target")), given.get("max_scale")
    yield f"{given['scale_metric']}, target {show(target)} a replica"
    yield f"{given.get('min_scale')} to {most or 'any number of'} replicas"
    yield f"window {given.get('stable_window')}"
    for name in _MORE_SCALING:
        if given.get(name) is not None:
            yield f"{name.replace('_', ' ')} {given[name]}"


def compared(summary: Summary) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield a row for each figure: its name; predicted, measured, their difference, and after."""
    record = result(summary, "06")
    predicted, measured, after = (part(record, n) for n in ("predicted", "measured", "after"))
    for each in FIGURES:
        said, found = number(predicted.get(each.key)), number(measured.get(each.key))
        if said is None and found is None and number(after.get(each.key)) is None:
            continue
        off = f"{100 * (found - said) / said:+.0f} %" if said and found is not None else "–"
        shown = (show(values.get(each.key), each.unit) for values in (predicted, measured))
        yield (each.name, *shown, off, show(after.get(each.key), each.unit))  # type: ignore[misc]


def load(summary: Summary) -> Iterator[tuple[str, str]]:
    """Yield what the load test found besides its figures, name by name."""
    record = result(summary, "06")
    ready = [number(record.get(f"{when}_ready")) for when in ("start", "peak", "final")]
    if None not in ready:
        yield "ready replicas", " → ".join(show(each) for each in ready)
    if number(record.get("agreement_percent")) is not None:
        words = f"{show(record['agreement_percent'])} % of seconds as predicted"
        if number(record.get("parts_at_s")) is not None:
            words += f"; they part at second {show(record['parts_at_s'])}"
        yield "agreement", words + (f": {why}" if (why := record.get("parts_why")) else "")
    sent = part(record, "requests")
    if sent:
        yield "requests", ", ".join(f"{value} {name}" for name, value in sent.items())
    for kind, times in part(record, "errors").items():
        yield f"error: {kind}", str(times)
    for pod, answers in part(record, "served_by").items():
        yield f"served by {pod}" if pod else "served by", f"{answers} answers"
