"""What a rehearsal found: what broke, times, waits, load, fairness and the bill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from qwenkit.inference.results import percentiles
from qwenkit.language import said
from qwenkit.widgets.display import show_table
from qwenkit.workshop.bill import Bill

FAIR, BILL_PERCENT = 0.95, 2.0
_LOOK_S = 1.0  # bill and rehearsal see a pod's end only so exactly: it counts where pods are short


def jain(shares: Iterable[float]) -> float:
    """Return Jain's index of fairness: 1 if all shares are equal, 1/n if one has everything.

    Source: R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984. Of nothing, it is 1.
    """
    given = list(shares)
    largest = max(given, default=0.0)
    if not largest:
        return 1.0
    parts = [share / largest for share in given]  # squares of tiny shares would underflow
    return sum(parts) ** 2 / (len(parts) * sum(part * part for part in parts))


def _tenths(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


@dataclass(frozen=True)
class Passage:
    """One learner's way through one chapter, in seconds of this machine; ``error`` if it broke."""

    participant: str
    chapter: str
    seconds: float
    waited_s: float = 0.0
    """Of these, how long it waited for a GPU."""
    error: str = ""


@dataclass(frozen=True)
class RehearsalReport:
    """A rehearsal in figures; ``str`` is for people.

    ``api_per_s`` and ``gateway_per_s`` are requests a second over the whole of it: by the API
    server's own count (None where it may not be read), and as the learners sent them. ``gpu_s`` are
    the seconds that pods held GPUs, by participant; ``bill`` has those of the workshop's ledger.
    """

    participants: int
    gpu_slots: int
    seed: int
    clock: float
    seconds: float
    passages: tuple[Passage, ...]
    slips: Mapping[str, int]
    """Mistakes: ``made``, and of these ``refused`` with an error that says what to do."""
    api_per_s: float | None
    gateway_per_s: float
    gpu_s: Mapping[str, float]
    bill: Bill
    pods: int = 0
    """How many pods held GPUs."""
    leaks: tuple[str, ...] = ()
    """What was left after the workshop was deleted."""

    @property
    def fairness(self) -> float:
        """Jain's index of the participants' GPU seconds."""
        return jain(self.gpu_s.values())

    @property
    def bill_error_percent(self) -> float:
        """How far the bill is from the pods' own GPU seconds, in percent of these."""
        own = sum(self.gpu_s.values())
        return 100 * abs(self.bill.gpu_seconds - own) / own if own else 0.0

    @property
    def problems(self) -> tuple[str, ...]:
        """What broke, and which of the limits were missed."""
        return tuple(self._problems())

    @property
    def ok(self) -> bool:
        """Whether nothing broke."""
        return not self.problems

    def chapters(self) -> list[dict[str, Any]]:
        """Return for each chapter how many passed it, and their seconds."""
        rows = []
        for chapter in dict.fromkeys(one.chapter for one in self.passages):
            here = [one for one in self.passages if one.chapter == chapter]
            good = [one for one in here if not one.error]
            seconds = percentiles(one.seconds for one in good)
            waits = percentiles(one.waited_s for one in good if one.waited_s)
            rows.append(
                {
                    "chapter": chapter,
                    "passed": len(good),
                    "broke": len(here) - len(good),
                    "p50, s": _tenths(seconds.get("p50")),
                    "p95, s": _tenths(seconds.get("p95")),
                    "GPU wait p50, s": _tenths(waits.get("p50")),
                    "GPU wait p95, s": _tenths(waits.get("p95")),
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self) | {
            "ok": self.ok,
            "bill": self.bill.to_dict(),
            "problems": list(self.problems),
            "chapters": self.chapters(),
            "fairness": round(self.fairness, 4),
            "bill_error_percent": round(self.bill_error_percent, 3),
        }

    def __str__(self) -> str:
        verdict = "passed" if self.ok else f"{len(self.problems)} problems"
        headline = (
            f"rehearsal of {self.participants} participants on {self.gpu_slots} GPU slots, clock × "
            f"{self.clock:g}, seed {self.seed}: {verdict} in {self.seconds:.0f} s"
        )

        chapters = self.chapters()
        table = show_table(chapters, *(chapters[0] if chapters else ()))
        figures = show_table(self._figures(), "figure", "value")
        parts = (said(headline), repr(table), repr(figures), "\n".join(map(said, self.problems)))
        return "\n\n".join(filter(None, parts))

    def _figures(self) -> Iterator[tuple[str, str]]:
        own, billed = sum(self.gpu_s.values()), self.bill
        yield "a second here is on the target", f"{self.clock:g} s"
        yield "mistakes made, and refused", f"{self.slips['made']}, {self.slips['refused']}"
        if self.api_per_s is not None:
            yield "requests a second to the API server", f"{self.api_per_s:.1f}"
        yield "requests a second to the gateway", f"{self.gateway_per_s:.1f}"
        yield "fairness of the GPU minutes (Jain)", f"{self.fairness:.3f}"
        yield "GPU seconds of the pods, and of the bill", f"{own:.0f}, {billed.gpu_seconds:.0f}"
        if billed.cost is not None:
            yield "the bill, at an example price", f"{billed.cost:.2f} CNY"

    def _problems(self) -> Iterator[str]:
        for one in self.passages:
            if one.error:
                yield f"{one.participant} broke in chapter {one.chapter}: {one.error}"
        if self.slips["made"] > self.slips["refused"]:
            yield f"{self.slips['made'] - self.slips['refused']} mistakes were not refused"
        if self.fairness < FAIR:
            yield f"the GPU minutes are shared unfairly: {self.fairness:.3f}, at least {FAIR}"
        own = sum(self.gpu_s.values())
        if abs(self.bill.gpu_seconds - own) > max(own * BILL_PERCENT / 100, self.pods * _LOOK_S):
            yield f"the bill is {self.bill_error_percent:.1f} % off the pods' own GPU seconds"
        yield from (f"left after the workshop: {what}" for what in self.leaks)
