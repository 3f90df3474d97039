"""``doctor``, ``render``, ``deploy``, ``query``, ``explain``, ``evidence`` and ``teardown``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from qwenkit.cli import consent
from qwenkit.cli.console import agreed, can_ask, emit, fail, interruptible, say, stderr_lines
from qwenkit.cli.options import Context, Json, Params, Set, Yes, read_settings
from qwenkit.course.interrupts import terminable
from qwenkit.errors import QwenkitError, SettingsError
from qwenkit.serving import DOCUMENTATION

if TYPE_CHECKING:
    from qwenkit.cluster.removal import Manner
    from qwenkit.cluster.teardown import Ended
    from qwenkit.inference.client import Stream
    from qwenkit.settings import Settings

_WEIGHTS_STAY = "weights do not expire; delete them with a second teardown"


def doctor(
    params: Params = None, set_: Set = None, context: Context = None, as_json: Json = False
) -> None:
    """Check every prerequisite: the value found, a verdict, the fix.

    Verdicts: ok, warn, fail (exit 1), unknown, and "not applicable" (n/a): this target needs none.
    """
    from qwenkit import steps

    report = steps.doctor(read_settings(params, set_, context))
    emit(report, as_json=as_json)
    raise typer.Exit(0 if report.ok else 1)


def render(
    as_documented: Annotated[
        bool, typer.Option("--as-documented", help="The documentation's own Service.")
    ] = False,
    monitor: Annotated[
        bool, typer.Option("--monitoring", help="Instead: PodMonitors and a Grafana dashboard.")
    ] = False,
    admin: Annotated[
        bool, typer.Option("--admin", help="Instead: what an administrator makes, and a Role.")
    ] = False,
    user: Annotated[
        str, typer.Option(help="With --admin: who gets the Role, also a system:serviceaccount:….")
    ] = "",
    params: Params = None,
    set_: Set = None,
    context: Context = None,
) -> None:
    """Print the YAML documents; the Secret without its keys."""
    from qwenkit import steps
    from qwenkit.manifests import render as manifests
    from qwenkit.manifests.monitoring import monitoring
    from qwenkit.manifests.template import to_yaml

    settings = read_settings(params, set_, context)
    if as_documented + monitor + admin > 1:
        given = "--monitoring" if monitor else "--admin"
        rule = f"cannot be given with {'--as-documented' if as_documented else '--admin'}"
        raise SettingsError(given, True, rule, "call render twice")
    docs: Sequence[Mapping[str, Any]]
    if admin:
        docs, enable = steps.for_admin(settings, user)
        say(f"# Once for the cluster, unless these flags are enabled already:\n# {enable}")
    elif monitor:
        docs = monitoring(settings)
    elif as_documented:
        docs = [manifests.as_documented(steps.resolve(settings))]
        say(f"the documentation: {DOCUMENTATION}", err=True)
    else:
        docs = steps.render(settings)
    typer.echo(to_yaml(docs), nl=False)


def deploy(
    mode: Annotated[
        str | None,
        typer.Option(
            help="How a service that serves is changed: surge (default), replace or in-place."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change, GPUs and gap; do nothing.")
    ] = False,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Apply Secret, PV, PVC and Service, and wait until the service is Ready."""
    from qwenkit import steps

    settings = read_settings(params, set_, context)
    if dry_run:
        nothing = {settings.service: "no revision serves: deploy starts one"}
        emit(steps.propose(settings) or nothing, as_json=as_json)
        return
    show = stderr_lines(quiet=as_json)
    with interruptible():
        emit(steps.deploy(settings, mode=mode, on_change=show), as_json=as_json)


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
    from qwenkit import steps

    settings = read_settings(params, set_, context)
    sampling: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
    sampling["top_p"] = top_p
    if seed is not None:
        sampling["seed"] = seed
    with closing(steps.find_server(settings)) as server:
        if curl:
            typer.echo(server.curl(text, **sampling))
        elif stream:
            _show_stream(server.stream(text, on_reasoning=_show_reasoning, **sampling), max_tokens)
        else:
            answer = server.ask(text, **sampling)
            if as_json:
                typer.echo(json.dumps(answer.raw, ensure_ascii=False))
                return
            if answer.reasoning:
                _show_reasoning(answer.reasoning + "\n")
            typer.echo(answer.text)
            if answer.reasoning and not answer.text:
                _tell_of_reasoning(answer.finish_reason, max_tokens)


def _show_stream(stream: Stream, max_tokens: int) -> None:
    empty = True
    for piece in stream:
        empty = False
        typer.echo(piece, nl=False)
    typer.echo()
    if empty and stream.reasoning:
        _tell_of_reasoning(stream.stats.finish_reason, max_tokens)


def _show_reasoning(piece: str) -> None:
    typer.secho(piece, nl=False, err=True, dim=True)


def _tell_of_reasoning(finish: str, max_tokens: int) -> None:
    used_up = f"its {max_tokens} tokens were used up by reasoning; raise --max-tokens"
    why = (
        used_up if finish == "length" else f"it ended with its reasoning (finish_reason: {finish})"
    )
    say(f"no answer: {why}", err=True)


def explain(
    name: Annotated[
        str | None, typer.Argument(help="The service (default: the parameter).")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="A bundle of `evidence`; no cluster is asked."),
    ] = None,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Explain why the service is not ready: one cause, the evidence, one fix; exit 0 if it is."""
    from qwenkit import steps

    if bundle is not None:
        found = steps.explain_bundle(bundle, name or "")
    else:
        more = {"service": name} if name else {}
        found = steps.explain(read_settings(params, set_, context, **more))
    emit(found, as_json=as_json)
    raise typer.Exit(0 if found.is_ready else 1)


def evidence(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="A new folder (default: runs/evidence-TIME)."),
    ] = None,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Keep prompts and answers in the server's log.")
    ] = False,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Write a folder for those who help: parameters, YAML, objects, logs, verdict; no secrets."""
    from qwenkit import evidence as keeping

    place = folder or Path("runs", f"evidence-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    settings = read_settings(params, set_, context)
    emit(keeping.evidence(settings, place, prompts=prompts), as_json=as_json)


def teardown(
    delete_weights: Annotated[
        bool, typer.Option("--delete-weights", help="Also delete what qwenkit uploaded to prefix.")
    ] = False,
    yes: Yes = False,
    now: Annotated[
        bool, typer.Option("--now", help="Give pods that are being deleted one more second.")
    ] = False,
    expired: Annotated[
        bool, typer.Option("--expired", help="Remove what has expired instead, of any run.")
    ] = False,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Remove what this run created, in the right order; then audit for leaks."""
    from qwenkit import steps
    from qwenkit.cluster.removal import Manner

    more = {"delete_weights": True} if delete_weights else {}
    settings = read_settings(params, set_, context, **more)
    show = stderr_lines(quiet=as_json)
    manner = Manner(show, now, _ask_to_shorten if can_ask() and not as_json else None)
    if expired:
        if delete_weights:
            raise SettingsError(
                "--delete-weights", True, "cannot be given with --expired", _WEIGHTS_STAY
            )
        with terminable():
            ended = _remove_expired(settings, show, manner)
        answer_ended(ended, as_json=as_json)
    foreign = consent.others(steps.find_occupants(settings), settings)
    consent.require(
        foreign,
        settings,
        yes=yes,
        ask=not as_json,
        what="teardown would remove them too; weights in the bucket stay",
        fix="or tear down as that run alone: "
        + " or ".join(sorted({f"--set run={one.run}" for one in foreign})),
    )
    with terminable():
        ended = steps.remove_and_audit(settings, also=foreign, on_step=show, manner=manner)
    answer_ended(ended, as_json=as_json)


def _remove_expired(settings: Settings, show: Callable[[object], None], manner: Manner) -> Ended:
    """Remove the workshops that have expired, with all that is in them; then what else has."""
    from qwenkit import steps
    from qwenkit.cluster.teardown import merged
    from qwenkit.workshop.delete import delete, expired

    ended = [delete(settings, name, on_step=show) for name in expired(settings)]
    ended.append(steps.remove_expired(settings, on_step=show, manner=manner))
    return merged(ended)


def answer_ended(ended: Ended, *, as_json: bool) -> NoReturn:
    """Print how a removal ended and what is left; exit 1 if anything is."""
    answer: dict[str, object] = {"removed": ended.removed, "leaks": ended.leaks}
    if isinstance(ended.error, QwenkitError):
        emit(answer | {"error": ended.error} if as_json else answer, as_json=as_json)
        fail(ended.error, as_json=False)
        raise typer.Exit(ended.error.exit_code)
    emit(answer, as_json=as_json)
    if isinstance(ended.error, KeyboardInterrupt):
        say("interrupted; what is left is named above: run teardown again", err=True)
        raise typer.Exit(130)
    if ended.error is not None:
        raise ended.error
    raise typer.Exit(1 if ended.leaks.found else 0)


def _ask_to_shorten(pod: str) -> bool:
    return agreed(f"{pod}\nGive it one more second instead?", err=True)
