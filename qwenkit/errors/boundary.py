"""The edge of the library: what nobody has foreseen leaves it as an error of ours, too."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FunctionType
from typing import Any, ParamSpec, TypeVar

from qwenkit.errors import QwenkitError

P = ParamSpec("P")
R = TypeVar("R")
_FIX = "do real servers answer there (qwenkit doctor)? Then it is a fault of qwenkit: report this"


def typed(call: Callable[P, R]) -> Callable[P, R]:
    """Return ``call``, which then raises errors of ours and interrupts alone.

    A server that answers what no such server does can make any code that reads it fail.
    """

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except QwenkitError:
            raise
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[1:]
            # It was called in a wrong way, or a person gave up at a question of the command line.
            if not frames or type(error).__module__.startswith("typer."):
                raise
            last = ([one for one in frames if "qwenkit" in one.filename] or frames)[-1]
            why = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
            what = f"{call.__name__} met what it cannot read"
            raise QwenkitError(what, why, _FIX) from error

    return run


def typed_in(module: dict[str, Any]) -> None:
    """Make every public function of a module, given by its ``globals()``, ``typed``."""
    for name, value in list(module.items()):
        own = isinstance(value, FunctionType) and value.__module__ == module["__name__"]
        if own and not name.startswith("_"):
            module[name] = typed(value)
