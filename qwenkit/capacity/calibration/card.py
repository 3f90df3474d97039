"""A measured card: its file ``cards/NAME.json``, and the ``Gpu`` to compute with."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from qwenkit.autoscaling.recording import read_recording
from qwenkit.capacity.calibration.errors import METRICS, calibrate
from qwenkit.capacity.calibration.points import FileFields, Measurements, read_card
from qwenkit.capacity.gpu import Gpu, Speed
from qwenkit.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU as it was measured; ``gpu`` holds the speed and error that were found.

    ``errors`` are the means by metric, as shares; ``measured`` is what all this follows from, as
    in tests/data/gpu: card, model, engine, runs. ``measured_on`` is a date.
    """

    name: str
    gpu: Gpu
    errors: Mapping[str, float | None]
    points: int
    measured_on: str
    measured: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, measured: Mapping[str, Any], measured_on: str) -> Card:
        """Fit a card to what was measured of it.

        Raises:
            InvalidValue: no such name is possible, or a field is not what it must be.
        """
        points = Measurements.of(FileFields(measured, "measured"))
        points = replace(points, eager=all(run.eager for run in points.runs))
        found = calibrate(points)
        gpu = _measured(points.gpu, name, found.speed, found.error)
        return cls(name, gpu, found.errors, found.points, measured_on, measured)

    def write(self, folder: Path) -> Path:
        """Write the card's file, all or nothing, and return its path.

        Raises:
            OSError: it cannot be written.
        """
        shown = {
            "name": self.name,
            "speed": asdict(self.gpu.speed),
            "error": self.gpu.error,
            "errors": self.errors,
            "points": self.points,
            "measured_on": self.measured_on,
            "measured": self.measured,
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(shown, indent=1) + "\n", "utf-8")
        return unfinished.replace(path)

    @classmethod
    def read(cls, path: Path) -> Card:
        """Read a card's file.

        Raises:
            NotFound: there is no such file.
            InvalidValue: it is damaged or another kind of file; names the field.
        """
        file = FileFields(read_recording(path), path.name)
        name, measured = file.text("name"), file.part("measured")
        given, errors = file.part("speed"), file.part("errors")
        speed = Speed(**{each.name: given.number(each.name) for each in fields(Speed)})
        return cls(
            name,
            _measured(read_card(measured.part("card")), name, speed, file.number("error")),
            {metric: errors.number(metric, None) for metric in METRICS},
            file.number("points", whole=True),
            file.text("measured_on"),
            measured.values,
        )


def _measured(gpu: Gpu, name: str, speed: Speed, error: float) -> Gpu:
    return replace(gpu, name=f"card:{check_name(name)}", speed=speed, error=error)


def check_name(name: str) -> str:
    """Return the name of a card.

    Raises:
        InvalidValue: no card can have it.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise InvalidValue("name", name, "1 to 100 letters, digits, '.', '_' and '-'")
    return name
