"""``plan``: settings simulated under traffic before anything is deployed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Annotated

import typer

from qwenkit.cli.console import emit, tell
from qwenkit.cli.options import Json, Params, Set, read_settings

_QUIET_S = 2.0


def plan(
    clients: Annotated[int | None, typer.Option(help="Closed-loop clients.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second, Poisson.")] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="CSV of seconds[,prompt,answer tokens], or a public trace."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="How long; default 600, or the whole trace.")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of a prompt.")] = 256,
    answer_tokens: Annotated[int, typer.Option(help="Tokens of an answer.")] = 128,
    ttft_p95: Annotated[float | None, typer.Option(help="Objective in seconds.")] = None,
    tpot: Annotated[
        float | None, typer.Option(help="Objective: p95 of the seconds per token.")
    ] = None,
    startup: Annotated[float | None, typer.Option(help="Cold start, s; else estimated.")] = None,
    price: Annotated[
        float | None, typer.Option(help="Per GPU-hour; default an example price in CNY.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="Number of GPUs; default no limit.")] = None,
    recommend: Annotated[bool, typer.Option(help="Also search for better settings.")] = True,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also compare HPA, KPA and KEDA: GPU-hours, goodput.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Also write one HTML file.")] = None,
    params: Params = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Simulate these settings under traffic: replicas, latency, cost, and what would be better."""
    from qwenkit.plan import report
    from qwenkit.plan.planner import make_plan
    from qwenkit.plan.question import Question, trace_text

    question = Question(
        clients=clients,
        rate_per_s=rate,
        trace=None if trace is None else trace_text(trace),
        seconds=seconds,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        ttft_p95_s=ttft_p95,
        tpot_p95_s=tpot,
        startup_s=startup,
        price_per_gpu_hour=price,
        gpus=gpus,
        recommend=recommend,
        compare=compare,
    )
    with _told_every(_QUIET_S) as say:
        made = make_plan(read_settings(params, set_, None), question, on_step=say)
    if html is not None:
        report.write_html(made, html)
    emit(report.as_dict(made) if as_json else report.as_text(made), as_json=as_json)
    raise typer.Exit(0 if made.fit.fits else 1)


@contextmanager
def _told_every(seconds: float) -> Iterator[Callable[[str], None]]:
    """Yield a function that takes the step of the work; it is told on stderr while it lasts."""
    steps, done, started = ["the question"], Event(), time.monotonic()

    def tell_on() -> None:
        while not done.wait(seconds):
            tell(f"{time.monotonic() - started:.0f} s: simulating {steps[-1]}")

    Thread(target=tell_on, daemon=True).start()
    try:
        yield steps.append
    finally:
        done.set()
