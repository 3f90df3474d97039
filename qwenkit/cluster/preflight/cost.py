"""What an hour of the Service costs: GPU-hours, and money by a table of example prices."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from qwenkit.errors import SettingsError
from qwenkit.language import Shown
from qwenkit.settings import Settings


@dataclass(frozen=True, repr=False)
class Estimate(Shown):
    """GPUs and money for one hour; None where there is no limit or no price is known.

    ``hours`` and ``is_example`` tell the readers of the JSON what the figures are.
    """

    gpu: str
    least_gpus: int
    most_gpus: int | None
    price_per_gpu_hour: float | None
    currency: str = "CNY"
    hours: float = 1.0
    is_example: bool = True

    @property
    def least(self) -> float | None:
        """Cost of the replicas that always run."""
        return self._cost(self.least_gpus)

    @property
    def most(self) -> float | None:
        """Cost with every allowed replica running; None without a limit."""
        return self._cost(self.most_gpus)

    def _cost(self, gpus: int | None) -> float | None:
        price = self.price_per_gpu_hour
        return None if gpus is None or price is None else round(gpus * price, 2)

    def __str__(self) -> str:
        if not self.gpu:
            return "no GPU: what the nodes' CPUs cost"
        most = "no limit" if self.most_gpus is None else self.most_gpus
        text = f"{self.least_gpus} to {most} {self.gpu} GPU-hours"
        if self.price_per_gpu_hour is None:
            return text
        top = "no limit" if self.most is None else f"{self.most:g}"
        each = f"{self.price_per_gpu_hour:g} each, an example price"
        return f"{text}, {self.least:g} to {top} {self.currency} at {each}"


def estimate(settings: Settings) -> Estimate:
    """Estimate the bill of one hour of this Service, at an example price of its GPU model."""
    if not settings.gpu_count:
        return Estimate("", 0, 0, None)
    most = settings.max_scale * settings.gpu_count if settings.max_scale else None
    price = example_price(settings)
    return Estimate(settings.gpu_name, settings.min_scale * settings.gpu_count, most, price)


def example_price(settings: Settings) -> float | None:
    """Return an example price in CNY of one of the GPUs for one hour; None for one without it."""
    with suppress(SettingsError):
        return settings.hardware.example_price_cny
    return None
