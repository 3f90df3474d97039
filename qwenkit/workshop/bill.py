"""What a workshop may cost before the day, and what it has cost by the ledger of its pods."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass

from qwenkit.cluster.kinds import CONFIG_MAP, Obj
from qwenkit.cluster.preflight.cost import example_price
from qwenkit.language import Shown, said
from qwenkit.language.width import columns, padded
from qwenkit.settings import Settings
from qwenkit.workshop import description
from qwenkit.workshop.description import Description
from qwenkit.workshop.names import SLOTS, WorkshopName
from qwenkit.workshop.slots.state import Slots


@dataclass(frozen=True, repr=False)
class Forecast(Shown):
    """The most that a workshop can cost: every slot in use for all of its time; prices in CNY."""

    gpu: str
    gpus: int
    hours: float
    price_per_gpu_hour: float | None
    participants: int

    @property
    def most(self) -> float | None:
        """The cost of all slots for all hours; None where no price is known."""
        price = self.price_per_gpu_hour
        return None if price is None else round(self.gpus * self.hours * price, 2)

    def __str__(self) -> str:
        each = self.gpus * self.hours * 60 / max(self.participants, 1)
        text = f"at most {self.gpus} × {self.gpu} for {self.hours:.1f} h"
        cost = "no example price known"
        if self.most is not None:
            cost = f"{self.most:g} CNY at {self.price_per_gpu_hour:g} an hour, an example price"
        return f"{text}: {cost}; {each:.0f} GPU minutes for each participant"

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON-ready values."""
        return asdict(self) | {"most": self.most, "currency": "CNY"}


@dataclass(frozen=True)
class BillLine:
    """One participant's part; ``cost`` in CNY, None where no price is known."""

    id: str
    name: str
    gpu_seconds: float
    cost: float | None


@dataclass(frozen=True, repr=False)
class Bill(Shown):
    """What each participant's pods have used, from their scheduling until they were gone."""

    workshop: str
    lines: tuple[BillLine, ...]
    price_per_gpu_hour: float | None

    @property
    def gpu_seconds(self) -> float:
        """GPU seconds of all."""
        return round(sum(line.gpu_seconds for line in self.lines), 1)

    @property
    def cost(self) -> float | None:
        """The cost of all, CNY."""
        return _cost(self.gpu_seconds, self.price_per_gpu_hour)

    def __str__(self) -> str:
        rows = [(f"{one.id} {one.name}".rstrip(), one.gpu_seconds, one.cost) for one in self.lines]
        rows.append((f"workshop {self.workshop}", self.gpu_seconds, self.cost))
        minutes = said("GPU minutes")
        width = max(columns(name) for name, *_ in rows)
        return "\n".join(
            f"{padded(name, width)}  {seconds / 60:8.1f} {minutes}"
            + ("" if cost is None else f"  {cost:10.2f} CNY")
            for name, seconds, cost in rows
        )

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON-ready values."""
        whole = {"gpu_seconds": self.gpu_seconds, "cost": self.cost, "currency": "CNY"}
        return asdict(self) | whole


def forecast(settings: Settings, workshop: Description) -> Forecast:
    """Return the most that a workshop can cost from now until its end."""
    gpus = workshop.gpu_slots if settings.gpu_count else 0
    price = example_price(settings)
    people = len(workshop.participants)
    return Forecast(settings.gpu_name, gpus, workshop.hours_left(), price, people)


def bill(settings: Settings, name: WorkshopName) -> Bill:
    """Return what a workshop has cost so far, by the ledger that its keeper writes.

    Raises:
        NotFound: there is no such workshop.
    """
    with closing(description.connect(settings, name)) as cluster:
        workshop = description.read(cluster, name)
        slots = slots_of(workshop, cluster.find(CONFIG_MAP, SLOTS))
    return bill_of(workshop, slots, example_price(settings))


def slots_of(workshop: Description, kept: Obj | None) -> Slots:
    """Return the state that the keeper's ConfigMap has, or the first one."""
    return Slots.of(kept) if kept else Slots(workshop.gpu_slots)


def bill_of(workshop: Description, slots: Slots, price: float | None) -> Bill:
    """Return the bill of a ledger, at ``price`` for a GPU and hour where it has none of its own."""
    used, price = slots.used(), slots.price_per_gpu_hour or price
    lines = []
    for who in workshop.participants:
        seconds = round(used.get(who.id, 0.0), 1)
        lines.append(BillLine(who.id, who.display_name, seconds, _cost(seconds, price)))
    return Bill(workshop.name.name, tuple(lines), price)


def _cost(seconds: float, price: float | None) -> float | None:
    return None if price is None else round(seconds / 3600 * price, 2)
