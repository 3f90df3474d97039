"""How long a pod takes from created to ready, step by step: ranges, with sources.

Weights and image are bytes over a rate, the other steps are as published, or estimates. The
constants are in ``loading.json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from importlib.resources import files

from qwenkit.capacity.band import Band

# The steps of a cold start, in order: what is estimated here, and measured in ``diagnosis``.
STEPS = (SCHEDULED, MOUNT, INIT, IMAGE, CONTAINER, ENGINE, WEIGHTS, COMPILE, KV, GRAPHS, WARM_UP,
         SERVER_UP, PROBE) = (
    "scheduled", "mount", "init containers", "image", "container", "engine start", "weights read",
    "compile", "KV profiling", "graph capture", "warm-up", "server up", "probe",
)  # fmt: skip
_DATA = json.loads((files("qwenkit.capacity") / "loading.json").read_text("utf-8"))
_SHOWN = 0.1  # of the whole: shorter steps are not named


@dataclass(frozen=True, slots=True)
class EstimatedStep:
    """The least and the most seconds of a step, and where they are from."""

    name: str
    low_s: float
    high_s: float
    source: str

    def __str__(self) -> str:
        return f"{self.name} {said(self.low_s, self.high_s)}"


@dataclass(frozen=True, slots=True)
class EstimatedStart:
    """A cold start on a node with a free GPU and the image; ``image``, ``new_node``: else more."""

    steps: tuple[EstimatedStep, ...]
    image: EstimatedStep
    new_node: EstimatedStep

    @property
    def seconds(self) -> Band:
        """The whole; its value, to simulate, is the geometric mean of the bounds."""
        low, high = sum(step.low_s for step in self.steps), sum(step.high_s for step in self.steps)
        return Band(low, _rounded(math.sqrt(low * high)), high)

    def __str__(self) -> str:
        whole = self.seconds
        parts = [str(step) for step in self.steps if step.high_s >= _SHOWN * whole.high]
        more = f"{self.image} more unless the node has it; {self.new_node} more"
        return f"{said(whole.low, whole.high)}: {', '.join(parts)}; {more}"


def weights_seconds(
    size: float, source: str = "ossfs2", strategy: str = "lazy", *, readers: int = 1
) -> EstimatedStep:
    """Return how long ``size`` bytes of weights take from a source of the table.

    Of vLLM's strategies ``eager`` and ``prefetch`` read whole files. Of the GPUs that share the
    model each reads all (vllm#49324), at best from a cache; ``prefetch`` divides the files.
    """
    way = "whole" if strategy in ("eager", "prefetch") else "lazy"
    low, high, where = _DATA["read_mb_s"][source][way]
    most = size if strategy == "prefetch" else size * readers
    return EstimatedStep(WEIGHTS, size / (high * 1e6), most / (low * 1e6), where)


def worth(size: float, source: str, strategy: str, *, readers: int = 1) -> str:
    """Say what a strategy is worth instead of vLLM's default.

    >>> worth(10e9, "ossfs2", "prefetch")
    '10 GB from ossfs2 take 4 to 35 s, not 20 to 100 s (elsewhere 2.8 to 17 × as fast, vllm#36012)'
    """
    both = (weights_seconds(size, source, each, readers=readers) for each in (strategy, "lazy"))
    new, old = (said(step.low_s, step.high_s) for step in both)
    least, most, _ = _DATA["times_faster"]
    faster = f"(elsewhere {least:g} to {most:g} × as fast, vllm#36012)"
    return f"{size / 1e9:.2g} GB from {source} take {new}, not {old} {faster}"


def estimate_start(
    weights: EstimatedStep, *, image_gb: float = 12.0, left_out: Collection[str] = (COMPILE,)
) -> EstimatedStart:
    """Estimate the cold start of a server that reads its weights so.

    ``left_out`` are steps that it has not: only vLLM's V1 engine has ``COMPILE``, and with
    ``--enforce-eager`` there are neither ``COMPILE`` nor ``GRAPHS``.
    """
    slow, fast, where = _DATA["pull_mb_s"]
    found = {name: EstimatedStep(name, *row) for name, row in _DATA["steps_s"].items()}
    found[WEIGHTS] = weights
    return EstimatedStart(
        tuple(found[name] for name in STEPS if name in found and name not in left_out),
        EstimatedStep(IMAGE, image_gb * 1e3 / fast, image_gb * 1e3 / slow, where),
        EstimatedStep("new node", *_DATA["new_node_s"]),
    )


def said(low_s: float, high_s: float) -> str:
    """Say a range of times, as roughly as it is known.

    >>> said(19.8, 91), said(52, 294)
    ('20 to 90 s', '50 s to 5 min')
    """
    near = [_rounded(each) for each in (low_s, high_s)]
    units = ["s" if each < 120 else "min" for each in near]
    low, high = (f"{each if each < 120 else each / 60:g}" for each in near)
    return f"{low}{f' {units[0]}' * (units[0] != units[1])} to {high} {units[1]}"


def _rounded(seconds: float) -> float:
    step = 1 if seconds < 10 else 5 if seconds < 120 else 30 if seconds < 600 else 60
    return step * round(seconds / step)
