"""Show a plan: text for a terminal, JSON for programs, one HTML file with charts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qwenkit.capacity.band import basis
from qwenkit.capacity.finding import Finding
from qwenkit.capacity.search.autoscalers import AutoscalerComparison
from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.simulation.result import ReplicaChange
from qwenkit.errors import InvalidValue, PreflightError
from qwenkit.language.page import said_page
from qwenkit.plan.planner import BetterSettings, ScalingPlan, SimulatedOutcome
from qwenkit.widgets.autoscaler_chart import autoscaler_chart
from qwenkit.widgets.charts import draw_run, front_chart
from qwenkit.widgets.display import show_table

_FIGURES = (
    *("requests", "answered", "failed", "unfinished", "max_ready", "max_queue"),
    *("ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "latency_p50_s", "latency_p95_s", "latency_p99_s"),
    *("tpot_p95_s", "gpu_seconds", "cost", "cost_per_hour", "cost_per_1k_tokens"),
)
_PERCENTILES = ("p50", "p95", "p99")
_SHOWN_CHANGES = 20


def as_dict(plan: ScalingPlan) -> dict[str, Any]:
    """Return the plan as JSON-ready values; all keys are always present."""
    lengths, environment = plan.traffic.load.lengths, plan.environment
    return {
        "gpu": plan.gpu.name,
        "model": plan.model.name,
        "traffic": plan.traffic.name,
        "notes": list(plan.notes),
        "prompt_tokens": lengths.prompt_tokens,
        "answer_tokens": lengths.output_tokens,
        "startup_s": environment.startup_s,
        "cold_start": plan.cold_start and asdict(plan.cold_start),
        "gpus": environment.gpus and environment.gpus * plan.gpus_each,
        "gpu_count": plan.gpus_each,
        "price_per_gpu_hour": environment.price_per_gpu_hour,
        "price_is_example": plan.price_is_example,
        "currency": plan.currency or None,
        "objective": {
            "ttft_p95_s": plan.objective.ttft_p95_s,
            "tpot_p95_s": plan.objective.tpot_p95_s,
        },
        "alternatives": list(plan.alternatives),
        "memory": asdict(plan.fit) | {"sequences_of_this_length": plan.sequences},
        "speed": {
            "uncertainty": plan.time.error,
            "measured": plan.time.measured,
            "basis": basis(plan.time),
            "ttft_s": asdict(plan.ttft_s),
            "batches": [asdict(speed) for speed in plan.speeds],
        },
        "scaling": asdict(plan.spec) | {"annotations": dict(plan.annotations)},
        "advice": [asdict(each) | {"setting": _setting(each)} for each in plan.advice],
        "simulation": _simulation(plan.outcome) if plan.outcome else None,
        "recommendation": _recommendation(plan.better) if plan.better else None,
        "why_no_recommendation": plan.why_not_better,
        "autoscalers": _autoscalers(plan.autoscalers) if plan.autoscalers else None,
    }


def _autoscalers(found: AutoscalerComparison) -> list[dict[str, Any]]:
    return [
        each.row() | {"replica_changes": [asdict(change) for change in each.result.changes]}
        for each in found.outcomes
    ]


def _setting(finding: Finding) -> str:
    return finding.where.rpartition("/")[2]


def _simulation(outcome: SimulatedOutcome) -> dict[str, Any]:
    bands = outcome.bands
    return {name: bands[name].value if name in bands else None for name in _FIGURES} | {
        "bands": {name: asdict(band) for name, band in bands.items()},
        "seconds": outcome.result.t[-1],
        "misses": list(outcome.misses),
        "misses_if_slow": list(outcome.slow_misses),
        "misses_if_fast": list(outcome.fast_misses),
        "replica_changes": [asdict(change) for change in outcome.result.changes],
    }


def _recommendation(better: BetterSettings) -> dict[str, Any]:
    found = better.recommendation
    return {
        "parameters": [asdict(each) for each in better.parameters],
        "annotations": dict(found.annotations),
        "container_concurrency": found.container_concurrency,
        "timeout_seconds": found.timeout_seconds,
        "response_start_timeout_seconds": found.timeout_seconds,
        "simulation": _simulation(better.outcome),
        "next_best": found.next_best_costs,
        "doubts": list(found.doubts),
        "front": [
            {
                "settings": str(each.choice),
                "cost_per_hour": each.cost_per_hour,
                "ttft_p95_s": _finite(each.ttft_p95_s),
            }
            for each in found.front
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_text(plan: ScalingPlan) -> str:
    """Return the plan as text."""
    return "\n".join(_lines(plan))


def _lines(plan: ScalingPlan) -> Iterator[str]:
    yield f"{plan.model.name} on {plan.gpu.name}: {headline(plan)}"
    for name, text in facts(plan):
        yield f"  {name:<13}{text}"
    if plan.advice:
        yield "advice"
    for finding in plan.advice:
        yield f"  {finding.level:<8} {_setting(finding)}: {finding.message}"
        yield f"  {'':<8} fix: {finding.fix}"
    if plan.outcome:
        yield f"these settings under {plan.traffic.name}"
        yield from (f"  {'note':<13}{note}" for note in plan.notes)
        yield from _outcome(plan.outcome, plan)
        yield "replicas"
        yield from _changes(plan.outcome.result.changes)
    if plan.better:
        yield from _better(plan.better, plan)
    else:
        yield f"no recommendation: {plan.why_not_better}"
    if plan.autoscalers:
        yield "the same requests under other autoscalers, each with at least one pod"
        yield "  to six minutes after the traffic, all at the middle of the band"
        yield f"  {about_within(plan.objective)}"
        rows = [each.shown(plan.currency) for each in plan.autoscalers.outcomes]
        yield repr(show_table(rows, *rows[0]))
        for each in plan.autoscalers.named():
            yield f"who scaled when, and why: {each.autoscaler}, target {each.setting}"
            yield from _changes(each.result.changes)


def headline(plan: ScalingPlan) -> str:
    """Describe in a few words whether the model fits."""
    if plan.fit.fits:
        return "it fits"
    would = "; or ".join(f"--set {each.replace(', ', ' --set ')}" for each in plan.alternatives)
    why = "; ".join(plan.fit.problems)
    return f"it does not fit: {why}. What would fit: {would or 'nothing that is known here'}"


def facts(plan: ScalingPlan) -> Iterator[tuple[str, str]]:
    """Describe memory, speed and scaling, name by name."""
    memory, lengths, spec = plan.fit, plan.traffic.load.lengths, plan.spec
    yield (
        "memory",
        f"{memory.usable_gib:g} GiB{' on each GPU' if plan.gpus_each > 1 else ''}: weights "
        f"{memory.weights_gib:.1f}, activations {memory.activation_gib:.1f}, KV cache "
        f"{memory.kv_gib:.1f} for {memory.kv_tokens} tokens",
    )
    yield (
        "sequences",
        f"{memory.sequences:.1f} of {memory.max_model_len} tokens, {plan.sequences:.1f} of "
        f"{lengths.prompt_tokens} in + {lengths.output_tokens} out",
    )
    yield "speeds", basis(plan.time)
    yield "TTFT", f"{plan.ttft_s.text('s')} to read a prompt alone"
    for speed in plan.speeds:
        streams = f"{speed.batch} streams" if speed.batch > 1 else "1 stream"
        rate = speed.tokens_per_s.text("tokens/s")
        yield "TPOT", f"{speed.tpot_s.text('s')} with {streams}, {rate}"
    yield (
        "scaling",
        f"target {spec.total:g} × {100 * spec.utilization:g} % = {spec.target:g} {spec.metric} "
        f"per replica, {spec.min_scale} to {spec.max_scale or 'any number of'} replicas, "
        f"window {spec.stable_window_s:g} s, panic window {spec.panic_window_s:g} s",
    )
    if plan.cold_start:
        yield "cold start", str(plan.cold_start)
    yield (
        "pods",
        f"simulated as ready {plan.environment.startup_s:g} s after they are created, "
        f"GPUs for {plan.environment.gpus or 'any number of'} replicas, "
        f"{plan.gpus_each} each",
    )


def figures(outcome: SimulatedOutcome, plan: ScalingPlan) -> Iterator[tuple[str, str]]:
    """Describe a simulation's figures, name by name."""
    bands, result = outcome.bands, outcome.result
    counts = (f"{bands[name].text()} {name}" for name in ("answered", "failed", "unfinished"))
    yield "requests", f"{', '.join(counts)} after {result.t[-1]} s"
    if result.requests.answered:
        for name, key in (("TTFT", "ttft"), ("latency", "latency")):
            shown = (f"{each} {bands[f'{key}_{each}_s'].text('s')}" for each in _PERCENTILES)
            yield name, ", ".join(shown)
        yield "TPOT", f"p95 {bands['tpot_p95_s'].text('s')}"
    yield (
        "replicas",
        f"at most {bands['max_ready'].text()} ready, at most {bands['max_queue'].text()} "
        "requests waiting",
    )
    example = ", an example price" if plan.price_is_example else ""
    currency = plan.currency and f" {plan.currency}"
    per_1k = bands.get("cost_per_1k_tokens")
    hours = f"{bands['gpu_seconds'].times(1 / 3600).text()} GPU-hours"
    each = f"{plan.environment.price_per_gpu_hour:g}{currency}{example}"
    price = f"{bands['cost'].text(plan.currency)} for {hours} at {each}"
    yield (
        "cost",
        f"{hours if plan.price_is_unknown else price}; {bands['cost_per_hour'].text()} per hour"
        + (f", {per_1k.times(1e3).text()} per million tokens" if per_1k else ""),
    )
    yield "objective", _objective(plan.objective, outcome)


def _objective(objective: Objective, outcome: SimulatedOutcome) -> str:
    if outcome.misses:
        where = "; met" if not outcome.fast_misses else "; missed"
        return f"missed: {'; '.join(outcome.misses)}{where} at the fast edge of the band"
    if outcome.slow_misses:
        return f"met; missed at the slow edge of the band: {'; '.join(outcome.slow_misses)}"
    named = objective.ttft_p95_s or objective.tpot_p95_s
    return "met" if named else "no request fails; name one with --ttft-p95 or --tpot"


def about_within(objective: Objective) -> str:
    """Say what the share of requests within the objective means."""
    limits = {"TTFT": objective.ttft_p95_s, "time per token": objective.tpot_p95_s}
    parts = [f"a {name} of at most {limit:g} s" for name, limit in limits.items() if limit]
    if not parts:
        return "within: requests that are answered; name an objective with --ttft-p95 or --tpot"
    return f"within: requests with {' and '.join(parts)}"


def _outcome(outcome: SimulatedOutcome, plan: ScalingPlan) -> Iterator[str]:
    for name, text in figures(outcome, plan):
        yield f"  {name:<13}{text}"


def _changes(changes: list[ReplicaChange]) -> Iterator[str]:
    if not changes:
        yield "  no change"
    for change in changes[:_SHOWN_CHANGES]:
        yield f"  {change.t:>7.0f} s  {change.before} → {change.after}  {change.reason}"
    if len(changes) > _SHOWN_CHANGES:
        yield f"  … and {len(changes) - _SHOWN_CHANGES} more: --json or --html has them all"


def _better(better: BetterSettings, plan: ScalingPlan) -> Iterator[str]:
    yield "recommended for the same traffic"
    for each in better.parameters:
        now = "" if each.value == each.now else f" (now {each.now or 'not set'})"
        yield f"  --set {each.parameter}={each.value}{now}"
        yield f"        {each.why}"
    yield "simulated with these"
    yield from _outcome(better.outcome, plan)
    yield f"  {'next best':<13}{better.recommendation.next_best_costs}"
    yield from (f"  {'doubt':<13}{doubt}" for doubt in better.recommendation.doubts)
    if changed := commands(better):
        yield f"to use them: qwenkit deploy {changed}"


def commands(better: BetterSettings) -> str:
    """Return the recommended parameters that differ from now, as options to paste."""
    return " ".join(
        f"--set {each.parameter}={each.value}"
        for each in better.parameters
        if each.value != each.now
    )


def compare(plan: ScalingPlan) -> Iterator[tuple[str, str, str]]:
    """Compare the figures of these settings with those of the recommended ones."""
    now = dict(figures(plan.outcome, plan)) if plan.outcome else {}
    then = dict(figures(plan.better.outcome, plan)) if plan.better else {}
    for name in now | then:
        yield name, now.get(name, ""), then.get(name, "")


def write_html(plan: ScalingPlan, path: Path) -> None:
    """Write the plan as one self-contained HTML file.

    Raises:
        InvalidValue: the file cannot be written.
        PreflightError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader
    except ModuleNotFoundError as error:
        fix = "pip install 'qwenkit[course]'"
        raise PreflightError("--html needs Jinja", str(error), fix) from error
    pictures = {}
    if plan.outcome:
        pictures["now"] = draw_run(plan.outcome.result).svg()
    if plan.outcome and plan.better:
        found = plan.better.recommendation
        pictures["better"] = draw_run(plan.better.outcome.result).svg()
        pictures["front"] = front_chart(found.candidates, found.chosen, plan.outcome.verdict).svg()
    if plan.autoscalers:
        pictures["autoscalers"] = autoscaler_chart(plan.autoscalers).svg()
    page = Environment(
        loader=PackageLoader("qwenkit.plan", ""), autoescape=True, trim_blocks=True
    ).get_template("plan.html")
    html = page.render(
        plan=plan,
        headline=headline(plan),
        facts=list(facts(plan)),
        comparison=list(compare(plan)),
        commands=commands(plan.better) if plan.better else "",
        pictures=pictures,
        within=about_within(plan.objective),
    )
    try:
        path.write_text(said_page(html), "utf-8")
    except OSError as error:
        raise InvalidValue("html", str(path), f"a file to write: {error}") from error
