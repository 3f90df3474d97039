"""``qwenkit sandbox``: the embedded sandbox as commands."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from qwenkit.capacity.calibration.cards import with_path
from qwenkit.cli import faults
from qwenkit.cli.commands import Group
from qwenkit.cli.console import emit, say
from qwenkit.cli.options import Json, Root
from qwenkit.errors import SettingsError
from qwenkit.sandbox import daemon, process, state_files

app = typer.Typer(
    help="The embedded sandbox: OSS, a model hub and Knative on loopback.",
    no_args_is_help=True,
    cls=Group,
)

app.add_typer(faults.app, name="fault")

Gpu = Annotated[str, typer.Option(help="GPU model of the node, or card:NAME.", callback=with_path)]
_OF_SHELL = state_files.of_shell()
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")]


@app.command()
def up(
    root: Root = state_files.DEFAULT_ROOT,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready.")] = False,
    gpu: Gpu = state_files.SandboxOptions.gpu,
    gpus: Annotated[
        int, typer.Option(min=0, max=64, help="GPUs of the node; 0: a node like kind's.")
    ] = 3,
    time_scale: Annotated[
        float, typer.Option(min=0.01, max=1000, help="How much faster than the modelled GPU.")
    ] = 1.0,
    engine: Annotated[
        str,
        typer.Option(
            help="The engine: modelled (a GPU's times), or vllm: the one on PATH or in "
            "QWENKIT_VLLM (the path of its executable), on this CPU, at its own speed."
        ),
    ] = "modelled",
    oss_port: Port = 0,
    hub_port: Port = 0,
    api_port: Port = 0,
    gateway_port: Port = 0,
    oss_driver: Annotated[
        bool, typer.Option("--oss-driver/--no-oss-driver", help="Whether nodes can mount a bucket.")
    ] = True,
) -> None:
    """Start the sandbox; without --detach it runs until Ctrl-C."""
    # There is no portable start time of a process; the CPU time that it has used is close.
    began = time.monotonic() - time.process_time()
    ports = oss_port, hub_port, api_port, gateway_port
    if engine == "vllm":
        say("sandbox: asking vLLM for its version; that may take half a minute", err=True)
    process.sweep(lambda line: say(f"sandbox: {line}", err=True))
    options = process.with_engine(
        state_files.SandboxOptions(
            gpu, gpus, time_scale, *ports, engine=engine, oss_driver=oss_driver
        )
    )
    if detach:
        emit(described(process.up(root.absolute(), options, began=began), root), as_json=False)
        return
    process.prepare(root.absolute())
    say(
        f"sandbox: starting ({_hardware(options)}; {_figures(options)}); then, in another shell: "
        f"{_eval(root)}"
    )
    daemon.serve(root.absolute(), options, began=began)


@app.command()
def down(root: Root = state_files.DEFAULT_ROOT) -> None:
    """Stop the sandbox and remove what it wrote; safe to repeat."""
    was_there = process.down(root.absolute(), on_note=lambda line: say(f"sandbox: {line}"))
    say("sandbox: down" if was_there else f"sandbox: none under {root}")


@app.command()
def status(
    root: Root = _OF_SHELL,
    as_json: Json = False,
) -> None:
    """Show where the sandbox listens; exit 1 if it is not running."""
    found = state_files.find(root.absolute())
    emit(found if found and as_json else described(found, root), as_json=as_json)
    raise typer.Exit(0 if found else 1)


@app.command()
def env(root: Root = state_files.DEFAULT_ROOT) -> None:
    """Print shell exports for every other command: KUBECONFIG, OSS_*, QWENKIT_*."""
    typer.echo(process.exports(root.absolute()))


@app.command()
def oss(
    root: Annotated[Path, typer.Option(help="Folder of the buckets.")],
    port: Port,
    bucket: Annotated[list[str] | None, typer.Option(help="Bucket to create; repeatable.")] = None,
) -> None:
    """Run the OSS server alone, in the foreground, with the keys of its environment."""
    keys = os.environ.get("OSS_ACCESS_KEY_ID", ""), os.environ.get("OSS_ACCESS_KEY_SECRET", "")
    if not all(keys):
        raise SettingsError(
            "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET",
            "",
            "must be set: they are the server's key pair",
        )
    from qwenkit.sandbox.assembly import run_oss

    asyncio.run(run_oss(root.absolute(), port, keys, bucket or [], on_ready=say))


def described(state: state_files.SandboxState | None, root: Path) -> str:
    """Return where a sandbox listens, as text."""
    if state is None:
        return f"sandbox: none is running under {root}"
    return "\n".join(
        (
            f"sandbox: up under {root} in {state.seconds:g} s "
            f"({_hardware(state.options)}; {_figures(state.options)})"
            + (", with the data of a crashed one" if state.recovered else ""),
            f"  process     {state.pid}",
            f"  time scale  {_time_scale(state)}",
            f"  kubernetes  {state.api}",
            f"  gateway     {state.gateway}",
            f"  oss         {state.oss}",
            f"  hub         {state.hub}",
            f"  next: {_eval(root)}",
        )
    )


def _eval(root: Path) -> str:
    return f'eval "$(qwenkit sandbox env --root {shlex.quote(str(root))})"'


def _time_scale(state: state_files.SandboxState) -> str:
    own = state.options.time_scale
    changed = f", for a run; otherwise {own:g}" if state.time_scale != own else ""
    return f"{state.time_scale:g}{changed}"


def _hardware(options: state_files.SandboxOptions) -> str:
    gpus = f"{options.gpus} × {options.gpu}" if options.gpus else "no GPU"
    return gpus if options.oss_driver else f"{gpus}; no OSS driver"


def _figures(options: state_files.SandboxOptions) -> str:
    if options.vllm:
        return (
            f"real vLLM {options.vllm_version} of {options.vllm} on this CPU: "
            "times are this machine's"
        )
    return "figures are modelled"
