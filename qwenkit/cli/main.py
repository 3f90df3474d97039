"""The steps of the course as commands. This module alone prints.

Exit codes: 0 good; 1 the answer is bad or the operation failed; 2 wrong use; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from qwenkit.cli import sandbox
from qwenkit.cli import weights as cli_weights
from qwenkit.cli.console import emit, fail, say
from qwenkit.cli.options import Context, Json, Params, Set, read_settings, settings_and_given
from qwenkit.credentials import Credentials
from qwenkit.errors import QwenkitError
from qwenkit.settings import Settings

app = typer.Typer(
    help="Qwen from ModelScope to OSS, served by vLLM on Knative, scaled by real load.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(sandbox.app, name="sandbox")
app.command()(sandbox.lab)


def main() -> int:
    """Run one command; return its exit code."""
    try:
        code = app(standalone_mode=False, prog_name="qwenkit")
    except QwenkitError as error:
        return fail(error, as_json="--json" in sys.argv)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        show = getattr(error, "show", None)  # a usage error; typer brings its own copy of click
        if show is None:
            raise
        show()
        return 2
    return code if isinstance(code, int) else 0


@app.command()
def doctor(
    params: Params = None, set_: Set = None, context: Context = None, as_json: Json = False
) -> None:
    """Check every prerequisite: the value found, a verdict, the fix."""
    from qwenkit.cluster.preflight.doctor import examine
    from qwenkit.manifests.render import secret_name
    from qwenkit.weights.store import Weights

    settings = read_settings(params, set_, context)
    report = examine(
        _cluster(settings),
        settings,
        bucket_check=lambda: Weights.of(settings).check(),
        secret=secret_name(settings),
    )
    emit(report, as_json=as_json)
    raise typer.Exit(0 if report.ok else 1)


app.command()(cli_weights.upload)
app.command()(cli_weights.verify)


@app.command()
def render(
    as_documented: Annotated[
        bool, typer.Option("--as-documented", help="The documentation's own Service.")
    ] = False,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
) -> None:
    """Print the YAML documents; the Secret without its keys."""
    from qwenkit.manifests import render as manifests

    settings = read_settings(params, set_, context)
    docs = [manifests.as_documented(settings)] if as_documented else manifests.render(settings)
    typer.echo(manifests.to_yaml(docs), nl=False)


@app.command()
def deploy(
    params: Params = None, set_: Set = None, context: Context = None, as_json: Json = False
) -> None:
    """Apply Secret, PV, PVC and Service, and wait until the service is Ready."""
    from qwenkit.cluster.client import Cluster
    from qwenkit.cluster.deploy import deploy as run_deploy
    from qwenkit.manifests.lint import lint, refuse
    from qwenkit.manifests.render import render as documents
    from qwenkit.manifests.render import secret

    settings = read_settings(params, set_, context)
    keys = Credentials.required()
    settings.require("bucket", "oss_endpoint")
    rendered = documents(settings)
    refuse(lint(rendered, gpu=settings.gpu))
    docs = [secret(settings, keys), *rendered[1:]]
    deployed = run_deploy(Cluster.connect(settings), docs, settings, on_change=say(quiet=as_json))
    emit(deployed, as_json=as_json)


@app.command()
def query(
    text: Annotated[str, typer.Argument(help="What to ask.")],
    max_tokens: Annotated[int, typer.Option(min=1)] = 64,
    temperature: Annotated[float, typer.Option(min=0)] = 0.7,
    top_p: Annotated[float, typer.Option(min=0, max=1)] = 0.9,
    seed: Annotated[int | None, typer.Option()] = None,
    stream: Annotated[bool, typer.Option(help="Print the answer as it comes.")] = False,
    curl: Annotated[
        bool, typer.Option(help="Print the curl command instead of sending it.")
    ] = False,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Ask the served model through the Knative gateway."""
    settings = read_settings(params, set_, context)
    server = _server(settings)
    sampling = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
    if seed is not None:
        sampling["seed"] = seed
    if curl:
        typer.echo(server.curl(text, **sampling))
    elif stream:
        for piece in server.stream(text, **sampling):
            typer.echo(piece, nl=False)
        typer.echo()
    else:
        answer = server.ask(text, **sampling)
        typer.echo(json.dumps(answer.raw, ensure_ascii=False) if as_json else answer.text)


@app.command()
def load(
    clients: Annotated[int | None, typer.Option(min=1, help="Closed-loop clients.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="How long.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens a request.")] = None,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Send load through the gateway and report latency, outcome and throughput."""
    from qwenkit.inference.load import run_load

    given = {"load_clients": clients, "load_seconds": seconds, "load_tokens": max_tokens}
    settings = read_settings(
        params, set_, context, **{name: value for name, value in given.items() if value is not None}
    )
    result = run_load(
        _server(settings),
        clients=settings.load_clients,
        seconds=settings.load_seconds,
        prompt=settings.prompt,
        max_tokens=settings.load_tokens,
        on_progress=say(quiet=as_json),
    )
    summary = result.summary()
    emit(summary, as_json=as_json)
    raise typer.Exit(1 if summary["errors"] else 0)


@app.command()
def plan(
    clients: Annotated[int | None, typer.Option(help="Closed-loop clients.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second, Poisson.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="CSV of arrivals: seconds[,prompt tokens,answer tokens].")
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
    startup: Annotated[float | None, typer.Option(help="Cold start of a pod, seconds.")] = None,
    price: Annotated[
        float | None, typer.Option(help="Per GPU-hour; default an example price in CNY.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs there are; default enough.")] = None,
    recommend: Annotated[bool, typer.Option(help="Also search for better settings.")] = True,
    html: Annotated[Path | None, typer.Option(help="Also write one HTML file.")] = None,
    params: Params = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Simulate these settings under traffic: replicas, latency, cost, and what would be better."""
    from qwenkit.plan import report as plan_report
    from qwenkit.plan.planner import Question, make_plan
    from qwenkit.plan.question import read_trace

    question = Question(
        clients=clients,
        rate_per_s=rate,
        trace=None if trace is None else read_trace(trace),
        seconds=seconds,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        ttft_p95_s=ttft_p95,
        tpot_p95_s=tpot,
        startup_s=startup,
        price_per_gpu_hour=price,
        gpus=gpus,
        recommend=recommend,
    )
    made = make_plan(read_settings(params, set_, None), question)
    if html is not None:
        plan_report.write_html(made, html)
    emit(plan_report.as_dict(made) if as_json else plan_report.words(made), as_json=as_json)
    raise typer.Exit(0 if made.fit.fits else 1)


@app.command()
def explain(
    name: Annotated[
        str | None, typer.Argument(help="The service (default: the parameter).")
    ] = None,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Say why the service is not ready: one cause, the evidence, one fix."""
    from qwenkit.cluster.client import Cluster
    from qwenkit.cluster.diagnosis.explain import explain as run_explain

    settings = read_settings(params, set_, context, **({"service": name} if name else {}))
    emit(run_explain(Cluster.connect(settings), settings), as_json=as_json)


@app.command()
def teardown(
    params: Params = None, set_: Set = None, context: Context = None, as_json: Json = False
) -> None:
    """Remove what this run made, in the right order; then audit for leaks."""
    from qwenkit.cluster.client import Cluster
    from qwenkit.cluster.teardown import audit
    from qwenkit.cluster.teardown import teardown as run_teardown
    from qwenkit.weights.store import Weights

    settings = read_settings(params, set_, context)
    cluster = Cluster.connect(settings)
    weights = Weights.of(settings) if settings.bucket else None
    report = run_teardown(cluster, settings, weights=weights, on_step=say(quiet=as_json))
    leaks = audit(cluster, settings, weights=weights)
    emit({"removed": report, "leaks": leaks}, as_json=as_json)
    raise typer.Exit(1 if leaks.found else 0)


@app.command()
def run(
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    only: Annotated[str, typer.Option(help="Numbers of notebooks, such as 00,03.")] = "",
    output: Annotated[Path, typer.Option(help="Where reports go.")] = Path("runs"),
    notebooks: Annotated[Path | None, typer.Option(help="Folder of the notebooks.")] = None,
    as_json: Json = False,
) -> None:
    """Run the notebooks with papermill; teardown in any case, then a report."""
    from qwenkit.course import runner
    from qwenkit.course.report import summarise, write_report

    settings, given = settings_and_given(params, set_, context)
    numbers = [number.strip() for number in only.split(",") if number.strip()]
    found = runner.find_notebooks(notebooks, numbers)
    plan = runner.Plan(found, given, runner.new_folder(output))
    report = runner.run_course(plan, settings, on_event=say(quiet=as_json))
    index = write_report(report)
    if as_json:
        typer.echo(json.dumps(summarise(report), ensure_ascii=False))
    else:
        for problem in report.problems:
            typer.echo(f"problem: {problem}")
        typer.echo(
            f"course: {report.passed}/{len(report.notebooks)} notebooks passed "
            f"in {report.seconds:g} s → {index}"
        )
    raise typer.Exit(130 if report.interrupted else 0 if report.ok else 1)


def _cluster(settings: Settings) -> Any:
    """Return the cluster, or the error that its preflight reports beside the other checks."""
    from qwenkit.cluster.client import Cluster

    try:
        return Cluster.connect(settings)
    except QwenkitError as error:
        return error


def _server(settings: Settings) -> Any:
    from qwenkit.cluster.client import Cluster
    from qwenkit.cluster.gateway import find
    from qwenkit.inference.client import Server

    gateway = find(Cluster.connect(settings), settings)
    return Server(
        gateway.url, gateway.host, model=settings.served_model_name, timeout_s=settings.timeout_s
    )
