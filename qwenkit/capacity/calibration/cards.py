"""Where the files of measured cards lie: ``cards/`` here, or in the nearest folder above with one.

``card:NAME`` names one, wherever a GPU is named.
"""

from __future__ import annotations

from pathlib import Path

from qwenkit.capacity.calibration.card import Card, check_name
from qwenkit.capacity.gpu import Gpu, find_gpu
from qwenkit.errors import InvalidValue, NotFound

CARD = "card:"


def card_file(name: str) -> Path:
    """Return the file of a card, which need not exist.

    Raises:
        InvalidValue: no card can have such a name.
    """
    return _folder() / f"{check_name(name)}.json"


def with_path(gpu: str) -> str:
    """Return ``card:NAME`` with the path of its file if there is one; others stay as they are."""
    try:
        path = _file(gpu)
    except InvalidValue:
        return gpu
    return f"{CARD}{path}" if gpu.startswith(CARD) and path.is_file() else gpu


def gpu_named(gpu: str) -> Gpu:
    """Return a measured card, or a GPU of the table.

    Raises:
        InvalidValue: there is no such card, or none that can be read; or no such GPU.
    """
    if not gpu.startswith(CARD):
        return find_gpu(gpu)
    try:
        if (file := _file(gpu)).is_file():
            return Card.read(file).gpu
        rule = "a card"
    except (InvalidValue, NotFound) as error:
        rule = f"a card ({error.what}: {error.why})"
    there = ", ".join(sorted(f"{CARD}{path.stem}" for path in _folder().glob("*.json")))
    rule = f"{rule} in {_folder()}, which has {there or 'none'}"
    raise InvalidValue("gpu", gpu, rule, "qwenkit calibrate measures one")


def _file(gpu: str) -> Path:
    name = gpu.removeprefix(CARD)
    return Path(name) if Path(name).is_absolute() else card_file(name)


def _folder() -> Path:
    here = Path.cwd()
    return next(
        (one for up in (here, *here.parents) if (one := up / "cards").is_dir()), here / "cards"
    )
