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
from qwenkit.capacity.calibration.points import Measurements, read_card
from qwenkit.capacity.file_fields import FileFields
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
        found = calibrate(replace(points, eager=all(run.eager for run in points.runs)))
        gpu = replace(found.gpu, name=f"card:{check_name(name)}")
        return cls(name, gpu, found.errors, found.points, measured_on, measured)

    def write(self, folder: Path) -> Path:
        """Write the card's file, all or nothing, and return its path.

        Raises:
            OSError: it cannot be written.
        """
        gpu, shown = self.gpu, {name: getattr(self, name) for name in self.__slots__}
        shown["gpu"] = None
        shown |= {"speed": asdict(gpu.speed), "error": gpu.error, "kernels": dict(gpu.kernels)}
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
        name, measured, kernels = file.get("name", ""), file.part("measured"), file.part("kernels")
        speed = Speed(*(file.part("speed").number(each.name) for each in fields(Speed)))
        gpu = replace(
            read_card(measured.part("card")),
            name=f"card:{check_name(name)}",
            speed=speed,
            error=file.number("error"),
            kernels=tuple((method, kernels.get(method, "")) for method in kernels.values),
        )
        errors = {metric: file.part("errors").number(metric, None) for metric in METRICS}
        points, day = file.number("points", whole=True), file.get("measured_on", "")
        return cls(name, gpu, errors, points, day, measured.values)


def check_name(name: str) -> str:
    """Return the name of a card.

    Raises:
        InvalidValue: no card can have it.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise InvalidValue("name", name, "1 to 100 letters, digits, '.', '_' and '-'")
    return name
