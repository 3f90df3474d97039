"""``load``: traffic from the command line, its figures, its records."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from qwenkit.cli.console import emit, fail, stderr_lines
from qwenkit.cli.live_load import watch_load
from qwenkit.cli.options import Context, Json, Params, Set, read_settings
from qwenkit.course.interrupts import terminable
from qwenkit.errors import InvalidValue, QwenkitError

if TYPE_CHECKING:
    from qwenkit.capacity.simulation.traffic import Lengths, Traffic
    from qwenkit.inference.load.shares import LoadPlan
    from qwenkit.inference.results import LoadResult
    from qwenkit.settings import Settings

_PROMPT_TOKENS = 256
_START_IN_S = 30.0
_EVERY_S, _BURST = 60.0, 5  # a burst is the last sixth, at so many times the rate
_NEEDS = (
    *(("arrivals", "rate"), ("like", "rate"), ("like", "requests")),
    *(("requests", "like"), ("burstiness", "like")),
    *(("workers", "in_cluster"), ("start_in", "in_cluster")),
)
_EXCLUDES = (
    *(("clients", "rate"), ("clients", "trace"), ("rate", "trace")),
    *(("like", "arrivals"), ("like", "seconds")),
    *(("sweep", "like"), ("sweep", "trace"), ("sweep", "records")),
    *(("in_cluster", "sweep"), ("in_cluster", "warm_up")),
)


class Shape(StrEnum):
    """How the requests of a rate arrive."""

    POISSON = "poisson"
    CONSTANT = "constant"
    BURST = "burst"
    RAMP = "ramp"


class Like(StrEnum):
    """Another tool, whose arrivals are made."""

    VLLM_BENCH = "vllm-bench"


_Clients = Annotated[int | None, typer.Option(min=1, help="Closed-loop clients.")]
_Rate = Annotated[float | None, typer.Option(help="Requests a second (open loop).")]
_Arrivals = Annotated[
    Shape | None,
    typer.Option(help="Of --rate; burst: 5 times the rate in a minute's last 10 s; ramp: from 0."),
]
_Trace = Annotated[
    Path | None,
    typer.Option(help="CSV of seconds[,prompt,answer tokens], or a public trace."),
]
_Like = Annotated[
    Like | None, typer.Option(help="The very arrivals of vllm bench serve with --seed.")
]
_Requests = Annotated[int | None, typer.Option(min=1, help="Of --like.")]
_Burstiness = Annotated[float | None, typer.Option(help="Of --like; 1 is Poisson.")]
_Seconds = Annotated[float | None, typer.Option(min=0.1, help="How long; each step of a sweep.")]
_Prompt = Annotated[int | None, typer.Option(min=1, help="About so many, in random words.")]
_Answer = Annotated[
    int | None, typer.Option("--answer-tokens", "--max-tokens", min=1, help="At most so many.")
]
_Spread = Annotated[float, typer.Option(help="Coefficient of variation of both lengths.")]
_WarmUp = Annotated[int, typer.Option(min=0, help="Requests before, not counted.")]
_Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of arrivals, lengths, prompts.")]
_Slo = Annotated[float | None, typer.Option(min=0, help="Seconds, for goodput.")]
_Sweep = Annotated[bool, typer.Option("--sweep", help="Double clients or rate until the knee.")]
_InCluster = Annotated[
    bool, typer.Option("--in-cluster", help="From pods beside the service, as a Job.")
]
_Workers = Annotated[int | None, typer.Option(min=1, help="Pods of --in-cluster [default: 1].")]
_StartIn = Annotated[
    float | None,
    typer.Option(min=0, help="Seconds until all pods of --in-cluster must run [default: 30]."),
]
_Records = Annotated[
    Path | None, typer.Option(help="Write every request: .csv, .json or .parquet.")
]


def load(
    ctx: typer.Context,
    clients: _Clients = None,
    rate: _Rate = None,
    arrivals: _Arrivals = None,
    trace: _Trace = None,
    like: _Like = None,
    requests: _Requests = None,
    burstiness: _Burstiness = None,
    seconds: _Seconds = None,
    prompt_tokens: _Prompt = None,
    answer_tokens: _Answer = None,
    spread: _Spread = 0.0,
    warm_up: _WarmUp = 0,
    seed: _Seed = 0,
    ttft_slo: _Slo = None,
    tpot_slo: _Slo = None,
    sweep: _Sweep = False,
    records: _Records = None,
    in_cluster: _InCluster = False,
    workers: _Workers = None,
    start_in: _StartIn = None,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Send load through the gateway and report latency, outcome and throughput.

    Without --clients, --rate or --trace, the settings' load_clients.
    """
    from qwenkit.inference.load import records as files
    from qwenkit.inference.results import as_text

    _check(ctx.params)
    if records is not None:
        files.check_ending(records)
    given = {"load_clients": clients, "load_seconds": seconds, "load_tokens": answer_tokens}
    given = {name: value for name, value in given.items() if value is not None}
    settings = read_settings(params, set_, context, **given)
    if sweep:
        run = partial(_run, settings, ctx.params)
        _sweep("clients" if rate is None else "requests/s", rate or clients or 1, run, as_json)
    result = _run(settings, ctx.params)
    figures = result.summary(ttft_slo_s=ttft_slo, tpot_slo_s=tpot_slo)
    try:
        if records is not None:
            files.write_records(result, records)
    except QwenkitError as error:  # the figures must not be lost with the file
        emit(figures | {"records": error} if as_json else as_text(figures), as_json=as_json)
        raise typer.Exit(fail(error, as_json=False)) from None
    emit(figures if as_json else as_text(figures), as_json=as_json)
    # Also where nothing was sent: a load without an answer is no success.
    raise typer.Exit(0 if figures["ok"] == figures["requests"] > 0 else 1)


def _run(settings: Settings, given: Mapping[str, Any], level: float | None = None) -> LoadResult:
    """Run the load of the options, with another number of clients or rate for a sweep."""
    from qwenkit import steps
    from qwenkit.capacity.simulation.traffic import Lengths
    from qwenkit.inference.load.running import start_load
    from qwenkit.inference.load.shares import LoadPlan

    prompt_tokens, seed, quiet = given["prompt_tokens"], given["seed"], given["as_json"]
    lengths = Lengths(prompt_tokens or _PROMPT_TOKENS, settings.load_tokens, given["spread"])
    traffic = _traffic(settings, lengths, given, level)
    request: dict[str, Any] = {
        "prompt": None if prompt_tokens or given["trace"] else settings.prompt,
        "seconds": given["seconds"] if given["trace"] else None,
    }
    if given["in_cluster"]:
        plan = LoadPlan(
            traffic,
            model=settings.served_model_name,
            timeout_s=settings.timeout_s,
            workers=given["workers"] or 1,
            seed=seed,
            request=request,
        )
        return _from_inside(settings, plan, given["start_in"], quiet=quiet)
    server, warm_up = steps.find_server(settings), given["warm_up"]
    start = partial(start_load, server, traffic, warm_up=warm_up, seed=seed, **request)
    return watch_load(settings, start, quiet=quiet)


def _from_inside(
    settings: Settings, plan: LoadPlan, start_in: float | None, *, quiet: bool
) -> LoadResult:
    from qwenkit.cluster.client import Cluster
    from qwenkit.in_cluster.load import load

    tell = stderr_lines(quiet=quiet)
    with terminable():
        wait_s = _START_IN_S if start_in is None else start_in
        return load(Cluster.connect(settings), settings, plan, start_in=wait_s, on_change=tell)


def load_worker(
    address: Annotated[str, typer.Argument()],
    plan: Annotated[list[str], typer.Argument()],
    host: Annotated[str, typer.Option()] = "",
) -> None:
    """Send one worker's share of a load; ``load --in-cluster`` runs this in pods."""
    from qwenkit.inference.client import Server
    from qwenkit.inference.load.shares import LoadPlan, run_share

    try:
        read = LoadPlan.of(plan)
        index = os.environ.get("JOB_COMPLETION_INDEX", "0")
        server = Server(address, host, model=read.model, timeout_s=read.timeout_s)
        for line in run_share(read, int(index) if index.isdecimal() else -1, server):
            typer.echo(line)
    except QwenkitError as error:
        # One line, which is found in the pod's log.
        typer.echo(json.dumps(error.to_dict(), ensure_ascii=False))
        raise typer.Exit(error.exit_code) from None


def _sweep(unit: str, first: float, run: Callable[[float], LoadResult], as_json: bool) -> NoReturn:
    from qwenkit.inference.load import sweep

    found = sweep.sweep(unit, sweep.doubled(first), run)
    emit(found, as_json=as_json)
    raise typer.Exit(1 if found.knee is None else 0)


def _traffic(
    settings: Settings, lengths: Lengths, given: Mapping[str, Any], level: float | None
) -> Traffic:
    """Return the traffic of the options, with another number of clients or rate for a sweep."""
    from qwenkit.capacity.simulation.arrivals import constant, like_vllm_bench, ramp
    from qwenkit.capacity.simulation.traces import read_trace
    from qwenkit.capacity.simulation.traffic import ClosedLoop, bursts, poisson
    from qwenkit.plan.question import trace_text
    from qwenkit.steps import LOAD_S

    lasts = settings.load_seconds or LOAD_S
    more: dict[str, Any] = {"lengths": lengths, "seed": given["seed"]}
    if given["trace"] is not None:
        recorded = read_trace(trace_text(given["trace"]), lengths=lengths)
        for note in recorded.notes:
            stderr_lines(quiet=given["as_json"])(f"of the trace, {note}")
        return recorded.load
    if given["rate"] is None:
        return ClosedLoop(((0.0, int(level or settings.load_clients)), (lasts, 0)), lengths)
    rate: float = level or given["rate"]
    if given["like"] is not None:
        burstiness = 1.0 if given["burstiness"] is None else given["burstiness"]
        return like_vllm_bench(given["requests"], rate, burstiness=burstiness, **more)
    if given["arrivals"] is Shape.BURST:
        every_s = min(_EVERY_S, lasts)
        return bursts(rate, _BURST * rate, lasts, every_s=every_s, burst_s=every_s / 6, **more)
    if given["arrivals"] is Shape.RAMP:
        return ramp(0.0, rate, lasts, **more)
    return (constant if given["arrivals"] is Shape.CONSTANT else poisson)(rate, lasts, **more)


def _check(given: Mapping[str, object]) -> None:
    """Refuse options that do not go together.

    Raises:
        InvalidValue: names them.
    """
    for name, other in _NEEDS:
        if given[name] and not given[other]:
            raise InvalidValue(_option(name), str(given[name]), f"needs {_option(other)} too")
    for name, other in _EXCLUDES:
        if given[name] and given[other]:
            rule = f"does not go with {_option(other)}"
            raise InvalidValue(_option(name), str(given[name]), rule)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
