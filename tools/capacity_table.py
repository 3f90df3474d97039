"""Draw the tables in qwenkit/capacity/README.md: constants, and what was predicted and measured.

    python tools/capacity_table.py        writes the page; a test fails when it is out of date

Data: tests/data/gpu (an H200 of our own, and what others published) and tests/data/kv-blocks.json.
A row that is missed by more than 25 % (KV cache: 8 %) says why, in its data.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from qwenkit.capacity.calibration.errors import calibrate, predict
from qwenkit.capacity.calibration.points import Measurements
from qwenkit.capacity.catalogue import find_model
from qwenkit.capacity.gpu import Gpu, Model, find_gpu
from qwenkit.capacity.memory import fit
from qwenkit.capacity.scheduler import ScheduledSequence, SchedulerLimits, scheduler_of
from qwenkit.capacity.step_time import StepTime

ROOT = Path(__file__).parents[1]
PAGE, DATA = ROOT / "qwenkit/capacity/README.md", ROOT / "tests/data"
FIRST, SECOND = "h200-vllm-0.26.json", "h200-vllm-0.26-second-machine.json"
KV_BAND = 0.08
SHORT = r"prefill tokens \d{1,3}$|prefill tokens 1024"  # their time is the host's
HELD_OUT = ["what", "figures", "mean error from the datasheet", "calibrated on the first", "worst"]
UNITS = {"throughput": "tokens/s", "kv": "tokens"}  # others: seconds
SIZES = r"batch|clients|(\w+_)?tokens"  # fields of a measured point
ENDINGS = {"8": "-GPTQ-Int8", "4": "-GPTQ-Int4", "awq": "-AWQ"}


class Point(NamedTuple):
    """A measured figure and the model's. ``band`` and errors are shares, ``why`` is of a miss."""

    what: str
    unit: str
    measured: float
    predicted: float
    band: float
    why: str = ""
    calibrated: float | None = None

    @property
    def error(self) -> float:
        """How far the prediction is off; positive is too much."""
        return self.predicted / self.measured - 1


def _read(name: str) -> Any:
    return json.loads((DATA / name).read_text("utf-8"))


def h200(name: str) -> Iterator[Point]:
    """Yield all that was measured on an H200.

    ``calibrated`` is the error after a calibration by the other points of the first machine.
    """
    first, found = (Measurements.read(DATA / "gpu" / one) for one in (FIRST, name))
    card = calibrate(first)
    known = predict(found.at(card.gpu.speed), noisy=True) if name != FIRST else card.left_out
    errors = {str(one.where()): one.error for one in known}
    bands = {run.name: found.time(run).error for run in found.runs}
    for one in predict(found, noisy=True):
        shown = {k: v for k, v in one.point.items() if re.fullmatch(SIZES, k)}
        sizes = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in shown.items())
        yield Point(
            f"{one.run}: {one.metric} {sizes}".rstrip(),
            UNITS.get(one.metric, "s"),
            one.measured,
            one.predicted,
            KV_BAND if one.metric == "kv" else bands[one.run],
            calibrated=errors.get(str(one.where())),
        )


def published() -> Iterator[Point]:
    """Yield what others published of speed and of throughput."""
    for row in _read("gpu/published-speed.json")["rows"]:
        gpu, model = _of(row)
        part, v1 = model.split(row.get("gpus", 1)), _release(row) >= (0, 5)
        time = StepTime(gpu, part, v1=v1, kernel=row.get("kernel", ""))
        offline = "requests_per_s" in row
        measured = row["requests_per_s"] if offline else row["tokens_per_s"]
        got = _requests_per_s(row, time) if offline else _tokens_per_s(row, time)
        count = f"{row['requests']} at once" if offline else f"batch {row['batch']}"
        what = f"{_name(row)}: {count}, {row['prompt_tokens']} in, {row['answer_tokens']} out"
        unit = "requests/s" if offline else "tokens/s"
        yield Point(what, unit, measured, got, time.error, row.get("miss", ""))


def kv_tokens() -> Iterator[Point]:
    """Yield the KV cache that servers print."""
    for row in _read("kv-blocks.json")["rows"]:
        length, share = row.get("profiled_len", row["max_model_len"]), row["gpu_memory_utilization"]
        gpu, model = _of(row)
        gpus = row.get("gpus", 1)
        got = fit(gpu, model, gpus=gpus, max_model_len=length, gpu_memory_utilization=share)
        what = f"{_name(row)}: vLLM {row['vllm']}, {length} tokens"
        yield Point(what, "tokens", row["kv_tokens"], got.kv_tokens, KV_BAND, row.get("miss", ""))


def _of(row: Mapping[str, Any]) -> tuple[Gpu, Model]:
    card = {"A100": "A100-80"}.get(row["gpu"], row["gpu"].removesuffix(" (assumed)"))
    others, name = _read("gpu/published-speed.json")["cards"], row["model"]
    kind = re.search(r"awq|(?<=gptq )[48]|(?<=gptq int)[48]", row["dtype"])
    ending = ENDINGS[kind[0]] if kind and not re.search("GPTQ|AWQ", name) else ""
    gpu = Gpu(card, **others[card]) if card in others else find_gpu(card)
    return gpu, find_model(name + ending)


def _name(row: Mapping[str, Any]) -> str:
    count = f"{row['gpus']} × " if "gpus" in row else ""
    return f"{count}{row['gpu']}, {row['model']} {row['dtype']}"


def _release(row: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(part) for part in row["vllm"].split("."))


def _tokens_per_s(row: Mapping[str, Any], time: StepTime) -> float:
    """Return the tokens a second of a batch that starts together, its prompts counted."""
    batch, prompt, answer = row["batch"], row["prompt_tokens"], row["answer_tokens"]
    read = batch * prompt
    first = time.step(read, batch, read, read * prompt / 2, prompts=True)
    return batch * answer / (first + (answer - 1) * time.decode(batch, prompt + answer / 2))


def _requests_per_s(row: Mapping[str, Any], time: StepTime) -> float:
    """Return the requests a second of many that are all there at the start."""
    draw, longest, left = random.Random(1), 4096, row["requests"]
    room = fit(time.gpu, time.model, max_model_len=longest, gpu_memory_utilization=0.9).kv_tokens
    limits = SchedulerLimits(16, room // 16, 256, longest, longest)
    scheduler = scheduler_of(_release(row), limits)
    for name in range(left):
        sizes = [row["prompt_tokens"], row["answer_tokens"]]
        if row.get("varied"):
            sizes = [min(longest // 2, max(2, round(draw.expovariate(1 / size)))) for size in sizes]
        scheduler.add(ScheduledSequence(name, *sizes))
    seconds = 0.0
    while left:
        step = scheduler.schedule()
        of = (step.rows, step.sequences, step.kv_tokens, step.prefill_pairs)
        seconds += time.step(*of, prompts=step.prefill_tokens > 0)
        left -= len(scheduler.release())
    return row["requests"] / seconds


def constants() -> Iterator[tuple[str, str, str]]:
    """Yield name, value and comment (what it is: source) of each constant of the model."""
    for name in ("step_time.py", "gpu.py", "memory.py"):
        group = ""
        for line in (PAGE.parent / name).read_text("utf-8").splitlines():
            opened = re.match(r"(_[A-Z]\w+) = \{$", line)
            group = opened[1] if opened else "" if line.startswith("}") else group
            row = re.match(r"( {4})?([\w\".]+)(?:: float)?(?: =|:) (.+?),?  # (.*)", line)
            if row and (row[1] or row[2].startswith("_")):
                yield f"{group}[{row[2]}]" if group else row[2], row[3], row[4]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(point: Point) -> list[str]:
    figures = [_figure(value, point.unit) for value in (point.measured, point.predicted)]
    left = [] if point.calibrated is None else [f"{point.calibrated:+.0%}"]
    return [point.what, *figures, f"{point.error:+.0%}", *left]


def _by_metric(points: Iterable[Point]) -> Iterator[list[str]]:
    """Yield for each run and metric how far its figures are off, and the worst one."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        metric = re.sub("(?<=prefill).*", " of short prompts", point.what)
        whole = metric if re.search(SHORT, point.what) else " ".join(point.what.split(" ")[:2])
        groups.setdefault(whole, []).append(point)
    for what, found in groups.items():
        errors = [[abs(one.error), abs(one.calibrated or 0)] for one in found]
        worst = max(found, key=lambda one: abs(one.calibrated or 0))
        where = worst.what.partition(": ")[2]
        means = [f"{fmean(each):.1%}" for each in zip(*errors, strict=True)]
        yield [what, str(len(found)), *means, f"{worst.calibrated:+.0%} ({where})"]


def _figure(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _summary(name: str, points: Sequence[Point]) -> str:
    typical = median(abs(point.error) for point in points)
    inside = sum(abs(point.error) <= point.band for point in points)
    said = f"* {name}: {len(points)} figures, half of them within {typical:.1%}"
    return f"{said}; the stated band holds {inside} of them ({inside / len(points):.0%})."


def draw(page: str) -> str:
    """Return the page with what stands between its markers drawn anew."""
    own, others, memory = [*h200(FIRST)], [*published()], [*kv_tokens()]
    held_out = [*h200(SECOND)]
    groups = {
        "H200, from its datasheet": own,
        "Held out: another H200, from its datasheet": held_out,
        "Published speed": others,
        "Published KV": memory,
    }
    missed = [point for point in others + memory if point.why]
    head = ["what", "measured", "predicted", "error"]
    texts = {
        "constants": _table(["name", "value", "what it is: source"], constants()),
        "summary": "\n".join(_summary(*group) for group in groups.items()),
        "misses": "\n".join(f"* {one.what} ({one.error:+.0%}): {one.why}." for one in missed),
        "h200": _table([*head, "left out"], map(_row, own)),
        "held-out": _table(HELD_OUT, _by_metric(held_out)),
        "published": _table(head, map(_row, [*others, *memory])),
    }
    for name, text in texts.items():
        start, end = page.index(f"<!-- {name} -->"), page.index(f"<!-- /{name} -->")
        page = f"{page[:start]}<!-- {name} -->\n{text}\n{page[end:]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(draw(PAGE.read_text("utf-8")), "utf-8")
