"""``calibrate``: measure a card, or take points of it, and write the file that models it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli.console import emit, stderr_lines
from qwenkit.cli.options import Context, Json, Params, Set, read_settings
from qwenkit.course.interrupts import terminable
from qwenkit.errors import InvalidValue, QwenkitError

if TYPE_CHECKING:
    from qwenkit.capacity.calibration.card import Card

_WORDS = {"decode": "decode", "prefill": "prompts", "ttft": "TTFT", "e2e": "latency"}
_WORDS |= {"throughput": "throughput", "kv": "KV cache"}
_SCATTERED = 0.3


def calibrate(
    name: Annotated[
        str | None, typer.Option(help="The card's name; default: the GPU's and the model's.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a card's file.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Measure every second batch.")] = False,
    url: Annotated[
        str | None, typer.Option(help="An OpenAI server of vLLM that is not behind Knative.")
    ] = None,
    load_results: Annotated[
        list[Path] | None,
        typer.Option(help="Measure nothing: records of load (.json) or a card's file; repeatable."),
    ] = None,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Measure how fast the service is on its GPU, in about five minutes, and model it by that.

    The card's file, cards/NAME.json, holds the points and the error that was found; plan, panel
    and sandbox use it as gpu=card:NAME. A service that may scale stays as it is: a copy with one
    pod, which needs a free GPU, is measured beside it and deleted again.
    """
    from qwenkit.capacity.calibration.card import Card
    from qwenkit.capacity.calibration.cards import card_file
    from qwenkit.loadtest.calibrating import default_name, measure, taken

    settings = read_settings(params, set_, context)
    name = name or default_name(settings)
    path = card_file(name)
    if path.exists() and not replace:
        raise InvalidValue("--name", name, f"{path} exists", "add --replace, or choose another")
    if load_results and (url or quick):
        raise InvalidValue("--load-results", str(load_results[0]), "measures nothing by itself")
    if load_results:
        measured = taken(settings, load_results)
    else:
        with terminable():
            tell = stderr_lines(quiet=as_json)
            measured = measure(settings, url=url or "", quick=quick, tell=tell)
    card = Card.of(name, measured, date.today().isoformat())
    try:
        card.write(path.parent)
    except OSError as error:
        raise QwenkitError(f"{path} cannot be written", str(error), "run it elsewhere") from None
    if as_json:
        emit({"card": str(path), "gpu": f"card:{name}", **_figures(card)}, as_json=True)
    else:
        emit(f"{_text(card)}\n{path}; use it as gpu=card:{name}", as_json=False)


def _figures(card: Card) -> dict[str, object]:
    return {"error": card.gpu.error, "errors": card.errors, "points": card.points}


def _text(card: Card) -> str:
    """Return how far its predictions are off, each from all other points."""
    shares = ((_WORDS[name], share) for name, share in card.errors.items() if share is not None)
    known = [f"{word} ± {100 * share:.{int(share < 0.01)}f} %" for word, share in shares]
    means = ", ".join(known) or "nothing could be judged"
    band = card.gpu.error or 0.0
    again = ": few points, or a busy machine; measure again" if band > _SCATTERED else ""
    return f"{means}; points: {card.points}; nine of ten figures within ± {100 * band:.0f} %{again}"
