"""The options that the commands of a workshop share, and the commands that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Signature, signature
from typing import Annotated, Any

import typer

from qwenkit.cli.console import emit, interruptible, stderr_lines
from qwenkit.cli.options import Context, Json, Params, Set, read_settings
from qwenkit.course.interrupts import terminable
from qwenkit.workshop.names import DEFAULT as DEFAULT

Name = Annotated[str, typer.Option("--name", help="Name of the workshop.")]


def _shared(
    name: Name = DEFAULT,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Have the options that every command gets."""


def command(act: Callable[..., object], *, without: Sequence[str] = ()) -> Callable[..., None]:
    """Return ``act`` as a command: it gets a ``Workshop`` and its own options; its answer is shown.

    ``without``: the shared options that it has no use for. An option such as ``as_json``
    is passed on if ``act`` has it, too.
    """
    own = _parameters(act)
    del own[next(iter(own))]
    shared = {k: p for k, p in _parameters(_shared).items() if k not in without}

    def run(**given: Any) -> None:
        from qwenkit.workshop.front import Workshop

        settings = read_settings(given["params"], given["set_"], given["context"])
        as_json = given.get("as_json", False)
        show = stderr_lines(quiet=as_json)
        workshop = Workshop(settings, given.get("name", ""), on_change=show)
        with terminable(), interruptible():
            answer = act(workshop, **{key: given[key] for key in own})
            if answer is not None:
                emit(answer, as_json=as_json)

    run.__name__, run.__doc__, run.__annotations__ = act.__name__, act.__doc__, {}
    alone = {key: one for key, one in own.items() if key not in shared}
    run.__dict__["__signature__"] = Signature([*alone.values(), *shared.values()])
    return run


def _parameters(act: Callable[..., object]) -> dict[str, Any]:
    # Only a type checker needs the ``Workshop``, whose import takes a second.
    return dict(signature(act, eval_str=True, locals={"Workshop": Any}).parameters)
