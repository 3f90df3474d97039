"""What a run costs: GPU-hours and money, by your price or a small table of example prices."""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.settings import Settings

# Example figures of November 2026: round numbers of the right order for one GPU and hour on
# demand. They are not a quotation; pass the price that you pay.
EXAMPLE_PRICES_CNY: dict[str, float] = {"V100-16": 26.0, "V100-32": 30.0, "A10": 10.0, "T4": 9.0}


@dataclass(frozen=True, repr=False)
class Estimate:
    """GPU-hours and money if the replicas ran for ``hours``; None where no price is known."""

    gpu: str
    hours: float
    least_gpus: int
    most_gpus: int | None
    price_per_gpu_hour: float | None
    is_example: bool = False
    currency: str = "CNY"

    @property
    def least(self) -> float | None:
        """Cost of the replicas that always run."""
        return self._cost(self.least_gpus)

    @property
    def most(self) -> float | None:
        """Cost with every allowed replica running; None without a limit."""
        return None if self.most_gpus is None else self._cost(self.most_gpus)

    def _cost(self, gpus: int) -> float | None:
        if self.price_per_gpu_hour is None:
            return None
        return round(gpus * self.hours * self.price_per_gpu_hour, 2)

    def __str__(self) -> str:
        most = "no limit" if self.most_gpus is None else f"{self.most_gpus * self.hours:g}"
        text = f"{self.least_gpus * self.hours:g} to {most} {self.gpu} GPU-hours"
        if self.price_per_gpu_hour is None:
            return text
        top = "no limit" if self.most is None else f"{self.most:g}"
        each = f"{self.price_per_gpu_hour:g} each{', an example price' * self.is_example}"
        return f"{text}, {self.least:g} to {top} {self.currency} at {each}"

    __repr__ = __str__


def estimate(
    settings: Settings, *, hours: float = 1.0, price_per_gpu_hour: float | None = None
) -> Estimate:
    """Estimate the bill of ``hours`` of this Service.

    Args:
        settings: GPU model, GPUs a replica, and the bounds of the scale.
        hours: how long.
        price_per_gpu_hour: what you pay; default an example price of the GPU model.
    """
    most = settings.max_scale * settings.gpu_count if settings.max_scale else None
    example = price_per_gpu_hour is None
    price = EXAMPLE_PRICES_CNY.get(settings.gpu) if example else price_per_gpu_hour
    return Estimate(
        settings.gpu, hours, settings.min_scale * settings.gpu_count, most, price, example
    )
