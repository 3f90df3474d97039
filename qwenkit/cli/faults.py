"""``qwenkit sandbox fault``: inject faults into a running sandbox, and see what they do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from qwenkit.cli.commands import Group
from qwenkit.cli.console import emit
from qwenkit.cli.options import Json, Root
from qwenkit.sandbox import state_files
from qwenkit.sandbox.faults.catalogue import FAULTS, MODEL_FOLDER, FaultKind, parse
from qwenkit.sandbox.faults.client import call

app = typer.Typer(
    help="Inject faults into the running sandbox. A fault applies once, unless --times or --for "
    "is given; all end with the sandbox.",
    no_args_is_help=True,
    cls=Group,
)

_ROOT = state_files.of_shell()
What = Annotated[str, typer.Argument(metavar="WHAT", help="The fault; see above.")]
Times = Annotated[int, typer.Option(min=0, help="How often. Default: once.", show_default=False)]
For = Annotated[float, typer.Option("--for", min=0, help="Seconds it lasts.", show_default=False)]
On = Annotated[str, typer.Option(help="Which requests it affects. Default: all of them.")]
Seconds = Annotated[
    float,
    typer.Option(
        min=0,
        help="How long a stall, restart or mount takes; a clock's error.",
        show_default=False,
    ),
]


def _help(where: str, sentence: str) -> str:
    lines = [f"{sentence}\n\nWHAT is one of:"]
    lines += [f"{what}: {kind.sees}{_defaults(kind)}" for what, kind in FAULTS[where].items()]
    return "\n\n".join(lines)


def _defaults(kind: FaultKind) -> str:
    given = {"--on": kind.on, "--seconds": kind.seconds, "--for": kind.for_s}
    shown = " ".join(f"{name} {value}" for name, value in given.items() if value)
    return f" [{shown}]" if shown else ""


def _server(where: str, sentence: str) -> None:
    @app.command(where, help=_help(where, sentence))
    def command(
        what: What,
        on: On = "",
        times: Times = 0,
        for_s: For = 0,
        seconds: Seconds = 0,
        root: Root = _ROOT,
        as_json: Json = False,
    ) -> None:
        order = {"on": on, "times": times, "for_s": for_s, "seconds": seconds}
        _inject(root, as_json, where=where, what=what, **order)


_server("api", "Disturb the Kubernetes API; --on takes methods: PATCH.")
_server("oss", "Disturb OSS; --on takes operations: UploadPart.")
_server("gateway", "Disturb the gateway; --on takes methods: POST.")
_server("hub", "Disturb the model hub; --on takes a glob of files: '*.json'.")


@app.command(help=_help("pod", "Disturb a pod while it serves requests."))
def pod(
    what: What,
    name: Annotated[
        str, typer.Argument(help="Its name or a prefix of it. Default: the youngest ready pod.")
    ] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Its namespace.")] = "default",
    seconds: Seconds = 0,
    for_s: For = 0,
    root: Root = _ROOT,
    as_json: Json = False,
) -> None:
    """Remove a pod, or make it slow."""
    order = {"name": name, "namespace": namespace, "seconds": seconds, "for_s": for_s}
    _inject(root, as_json, where="pod", what=what, **order)


@app.command(help=_help("gpu", "Remove GPUs from the node."))
def gpu(
    what: What,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    for_s: For = 0,
    root: Root = _ROOT,
    as_json: Json = False,
) -> None:
    """Remove GPUs."""
    _inject(root, as_json, where="gpu", what=what, count=count, for_s=for_s)


@app.command(help=_help("mount", "Disturb the mounting of volumes."))
def mount(
    what: What,
    seconds: Seconds = 0,
    times: Times = 0,
    for_s: For = 0,
    root: Root = _ROOT,
    as_json: Json = False,
) -> None:
    """Make mounts slow."""
    _inject(root, as_json, where="mount", what=what, seconds=seconds, times=times, for_s=for_s)


@app.command(
    help=_help("weights", "Damage the weights in the bucket. Only `qwenkit upload` repairs them.")
)
def weights(
    what: What,
    file: Annotated[str, typer.Option(help="Which file. Default: the first shard.")] = "",
    prefix: Annotated[str, typer.Option(help="Prefix in the bucket.")] = MODEL_FOLDER,
    root: Root = _ROOT,
    as_json: Json = False,
) -> None:
    """Damage the weights."""
    _inject(root, as_json, where="weights", what=what, name=file, prefix=prefix)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List every fault and its visible effect."""
    known = {
        f"{where} {what}": kind.sees for where in FAULTS for what, kind in FAULTS[where].items()
    }
    width = max(map(len, known))
    lines = [f"{name:{width}}  {sees}" for name, sees in known.items()]
    emit(known if as_json else "\n".join(lines), as_json=as_json)


@app.command()
def status(root: Root = _ROOT, as_json: Json = False) -> None:
    """Show the faults since the last clear: how often each hit, and what is left."""
    faults = call(root.absolute(), "GET")
    lines = [_line(one) for one in faults] or ["no faults"]
    emit(faults if as_json else "\n".join(lines), as_json=as_json)


@app.command()
def clear(root: Root = _ROOT, as_json: Json = False) -> None:
    """End all active faults; what they broke (pods, weights) stays broken."""
    answer = call(root.absolute(), "DELETE")
    text = f"cleared: {answer['cleared']} active"
    emit(answer if as_json else text, as_json=as_json)


def _inject(root: Path, as_json: bool, **order: object) -> None:
    fault = call(root.absolute(), "POST", parse(order).model_dump())
    text = f"{_line(fault)}\n  you will see: {fault['sees']}"
    emit(fault if as_json else text, as_json=as_json)


def _line(fault: Mapping[str, object]) -> str:
    parts = [f"{fault['where']} {fault['what']}: {fault['met']}"]
    of = f" of {fault['of']}" if fault["of"] else ""
    parts.append(f"hit {fault['hits']}{of}")
    if fault["left_s"]:
        parts.append(f"{fault['left_s']} s left")
    parts.append("active" if fault["active"] else "over")
    return ", ".join(parts)
