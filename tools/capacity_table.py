"""Draw the table in qwenkit/capacity/README.md: what the model predicts beside what was measured.

    python tools/capacity_table.py        writes the README; a test fails when it is out of date

Data: tests/data/gpu (an H200 of our own, and what others published) and tests/data/kv-blocks.json.
A row that is missed by more than 25 % says why, in its data.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qwenkit.capacity.catalogue import find_model
from qwenkit.capacity.gpu import Gpu, Model, find_gpu
from qwenkit.capacity.memory import fit
from qwenkit.capacity.scheduler import ScheduledSequence, SchedulerLimits, scheduler_of
from qwenkit.capacity.step_time import StepTime

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "qwenkit/capacity/README.md"
DATA = ROOT / "tests/data"
ENDINGS = {"8": "-GPTQ-Int8", "4": "-GPTQ-Int4", "awq": "-AWQ"}


class Point(NamedTuple):
    """A measured figure and the model's; ``band`` is a share, ``why`` explains a miss."""

    what: str
    measured: float
    predicted: float
    band: float
    unit: str
    why: str = ""

    @property
    def error(self) -> float:
        """The share by which the prediction is off; positive is too much."""
        return self.predicted / self.measured - 1


def read(name: str) -> Any:
    """Return a file of ``DATA``, parsed."""
    return json.loads((DATA / name).read_text("utf-8"))


def of_row(row: Mapping[str, Any]) -> tuple[Gpu, Model]:
    """Return the card and the model of a published row."""
    card = {"A100": "A100-80"}.get(row["gpu"], row["gpu"].removesuffix(" (assumed)"))
    others = read("gpu/published-speed.json")["cards"]
    gpu = Gpu(card, **others[card]) if card in others else find_gpu(card)
    kind = re.search(r"awq|(?<=gptq )[48]|(?<=gptq int)[48]", row["dtype"])
    name = row["model"]
    ending = ENDINGS[kind[0]] if kind and not re.search("GPTQ|AWQ", name) else ""
    return gpu, find_model(name + ending)


def published() -> Iterator[Point]:
    """Yield what others published of decoding speed and of throughput."""
    for row in read("gpu/published-speed.json")["rows"]:
        gpu, model = of_row(row)
        release = tuple(int(part) for part in row["vllm"].split("."))
        time = StepTime(
            gpu, model.split(row.get("gpus", 1)), v1=release >= (0, 5), kernel=row.get("kernel", "")
        )
        parts = [row["gpu"], f"{row['gpus']} GPUs" if "gpus" in row else "", row["model"]]
        load = f"{row['prompt_tokens']} in, {row['answer_tokens']} out"
        if "requests_per_s" in row:
            measured, got = row["requests_per_s"], offline(row, time, model)
            parts += [row["dtype"], f"{row['requests']} requests at once, {load}"]
        else:
            measured, got = row["tokens_per_s"], tokens_per_s(row, time)
            parts += [row["dtype"], f"{row['batch']} × {load}"]
        unit = "requests/s" if "requests_per_s" in row else "tokens/s"
        yield Point(
            ", ".join(filter(None, parts)), measured, got, time.error, unit, row.get("miss", "")
        )


def tokens_per_s(row: Mapping[str, Any], time: StepTime) -> float:
    """Return the tokens a second of a batch that starts together, its prompts counted."""
    batch, prompt, answer = row["batch"], row["prompt_tokens"], row["answer_tokens"]
    read = batch * prompt
    first = time.step(read, batch, read, read * prompt / 2, prompts=True)
    return batch * answer / (first + (answer - 1) * time.decode(batch, prompt + answer / 2))


def offline(row: Mapping[str, Any], time: StepTime, model: Model) -> float:
    """Return the requests a second of many that are all there at the start."""
    draw = random.Random(1)
    longest = 4096
    kv_tokens = fit(time.gpu, model, max_model_len=longest, gpu_memory_utilization=0.9).kv_tokens
    release = tuple(int(part) for part in row["vllm"].split("."))
    limits = SchedulerLimits(16, kv_tokens // 16, 256, longest, longest)
    scheduler = scheduler_of(release, limits)
    for name in range(row["requests"]):
        sizes = [row["prompt_tokens"], row["answer_tokens"]]
        if row.get("varied"):
            sizes = [min(longest // 2, max(2, round(draw.expovariate(1 / size)))) for size in sizes]
        scheduler.add(ScheduledSequence(name, *sizes))
    seconds, left = 0.0, row["requests"]
    while left:
        step = scheduler.schedule()
        seconds += time.step(
            step.rows,
            step.sequences,
            step.kv_tokens,
            step.prefill_pairs,
            prompts=step.prefill_tokens > 0,
        )
        left -= len(scheduler.release())
    return row["requests"] / seconds


def kv_tokens() -> Iterator[Point]:
    """Yield the KV cache that servers print."""
    for row in read("kv-blocks.json")["rows"]:
        gpu, model = of_row(row)
        got = fit(
            gpu,
            model,
            gpus=row.get("gpus", 1),
            max_model_len=row.get("profiled_len", row["max_model_len"]),
            gpu_memory_utilization=row["gpu_memory_utilization"],
        )
        what = f"{row['gpu']}, {row['model']}, {row['dtype']}, vLLM {row['vllm']}"
        yield Point(what, row["kv_tokens"], got.kv_tokens, 0.08, "tokens", row.get("miss", ""))


if __name__ == "__main__":
    for point in (*published(), *kv_tokens()):
        figures = f"{point.measured:10.5g} {point.predicted:10.5g} {point.error:+.0%}"
        print(f"{point.what:80} {figures}")
