"""What was measured of vLLM on a card: decode steps, prompts, closed loops, KV cache."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from qwenkit.autoscaling.recording import read_recording
from qwenkit.capacity.catalogue import find_config
from qwenkit.capacity.gpu import CPU, Gpu, Model, Speed, gpu_of_label
from qwenkit.capacity.model_config import KNOWLEDGE, ModelConfig, Quantization
from qwenkit.capacity.step_time import KERNELS_OF, StepTime
from qwenkit.errors import InvalidValue

_DATASHEET = ("bandwidth_gb_s_datasheet", "fp16_tflops_datasheet", "compute_capability")


@dataclass(frozen=True, slots=True)
class DecodePoint:
    """A decode step of a batch, each sequence of which holds ``context_tokens``."""

    batch: int
    context_tokens: float
    tpot_s: float


@dataclass(frozen=True, slots=True)
class PrefillPoint:
    """A prompt alone, to its first token."""

    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ClosedPoint:
    """Clients that each send the next request when the last one ended, for ``seconds``.

    TTFT is the median; throughput counts all tokens, those of unfinished answers too.
    """

    clients: int
    prompt_tokens: int
    answer_tokens: int
    seconds: float = 0.0
    ttft_p50_s: float | None = None
    latency_mean_s: float | None = None
    tokens_per_s: float | None = None


Point = DecodePoint | PrefillPoint | ClosedPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One server and what was measured of it; ``model`` is one GPU's part.

    ``kernel`` is as in ``StepTime``. ``room_gib`` is what vLLM may take of the GPU's memory, and
    ``kv_tokens`` what is left for the KV cache; None where they were not read.
    """

    name: str
    model: Model
    points: tuple[Point, ...] = ()
    kernel: str = ""
    eager: bool = False
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    chunked_prefill: bool = False
    room_gib: float | None = None
    kv_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Measurements:
    """The runs of one card; ``v1`` is vLLM's V1 engine (0.8 and later).

    Runs without CUDA graphs tell of the host, and only of ``eager`` measurements the times count.
    """

    gpu: Gpu
    runs: tuple[Run, ...]
    v1: bool = True
    eager: bool = False

    def timed(self) -> list[Run]:
        """Return the runs whose times count."""
        return [run for run in self.runs if self.eager or not run.eager]

    def time(self, run: Run) -> StepTime:
        """Return how long the steps of a run take on the card."""
        return StepTime(self.gpu, run.model, run.eager, self.v1, run.kernel)

    def at(self, speed: Speed) -> Measurements:
        """Return the same of a card of another speed."""
        return replace(self, gpu=replace(self.gpu, speed=speed))

    @classmethod
    def read(cls, path: Path, like: Path | None = None) -> Measurements:
        """Read a file as in tests/data/gpu, or the points that a card's file keeps.

        Card, model and engine are those of ``like`` where it names none.

        Raises:
            NotFound: there is no such file.
            InvalidValue: a field is not what it must be; names it.
        """
        file = _content(path)
        if like is not None:
            shared = {name: _content(like).values.get(name) for name in ("card", "model", "engine")}
            file.values = shared | {k: v for k, v in file.values.items() if v not in (None, {}, "")}
        return cls.of(file)

    @classmethod
    def of(cls, file: FileFields) -> Measurements:
        """Read what such a file holds; without card or model, its runs tell nothing."""
        version = re.search(r"vllm[ v]*0\.(\d+)", file.text("engine"), re.I)
        card, runs, told = file.part("card"), file.part("runs"), file.part("model").values
        return cls(
            read_card(card) if card.values else CPU,
            tuple(
                _run(file, runs.part(name), name) for name in runs.values if card.values and told
            ),
            file.flag("v1", not version or int(version[1]) >= 8),
        )


class FileFields:
    """An object of a file, whose fields are checked as they are read."""

    def __init__(self, values: Any, where: str) -> None:
        self.values: Mapping[str, Any] = {} if values is None else values
        self.where = where
        if not isinstance(self.values, Mapping):
            raise InvalidValue(where, values, "an object", "write it as in tests/data/gpu")

    def part(self, name: str) -> FileFields:
        """Return an object inside this one, empty if it is missing."""
        return FileFields(self.values.get(name), f"{self.where}: {name}")

    def several(self, name: str, kind: Any) -> Iterator[Any]:
        """Yield a dataclass for each object of a list, which may be missing."""
        found = self._typed(name, list, [], "a list")
        return (
            FileFields(one, f"{self.where}: {name}[{at}]").make(kind)
            for at, one in enumerate(found)
        )

    def make(self, kind: Any, **given: Any) -> Any:
        """Return a dataclass; what is not given is a number in the field of its name."""
        for each in fields(kind):
            if each.name not in given:
                default, whole = each.default, str(each.type).startswith("int")
                given[each.name] = self.number(each.name, default, whole=whole)
        return kind(**given)

    def number(self, name: str, default: Any = MISSING, *, whole: bool = False) -> Any:
        """Return a positive number; the default, if there is one, where it is missing or 0."""
        value = self.values.get(name)
        if not value and value is not False and default is not MISSING:
            return default
        kind = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or not 1e-9 < value < 1e9:
            raise self.wrong(name, f"a {'whole ' * whole}number from 1e-9 to 1e9")
        return value

    def text(self, name: str) -> str:
        """Return a text, "" where it is missing."""
        found: str = self._typed(name, str, "", "a text")
        return found[:400]

    def flag(self, name: str, default: bool = False) -> bool:
        """Return true or false, the default where it is missing."""
        found: bool = self._typed(name, bool, default, "true or false")
        return found

    def wrong(self, name: str, rule: str) -> InvalidValue:
        """Return the error of a field."""
        value, fix = self.values.get(name), f"correct {name} in the file"
        return InvalidValue(f"{self.where}: {name}", value, rule, fix)

    def _typed(self, name: str, kind: type, default: Any, rule: str) -> Any:
        value = self.values.get(name)
        if value is not None and not isinstance(value, kind):
            raise self.wrong(name, rule)
        return default if value is None else value


def _content(path: Path) -> FileFields:
    file = FileFields(read_recording(path), path.name)
    return file.part("measured") if "measured" in file.values else file


def read_card(card: FileFields) -> Gpu:
    """Return a card by its name in our table, else by its datasheet's figures.

    Raises:
        InvalidValue: one of these is missing.
    """
    name = card.text("name")
    known = gpu_of_label(name)
    return known or Gpu(name or "card", *map(card.number, ("usable_gib", *_DATASHEET)))


def _run(file: FileFields, part: FileFields, name: str) -> Run:
    texts = part.text("kernel").lower(), part.text("weights").lower(), file.text("engine").lower()
    config = _config(file.part("model"), texts[1])
    run: Run = part.make(
        Run,
        name=name,
        model=config.model().split(part.number("gpus", 1, whole=True)),
        points=tuple(_points(part)),
        kernel=_kernel(config.quantization, texts),
        eager=part.flag("eager"),
        chunked_prefill=part.flag("chunked_prefill"),
    )
    return run


def _points(part: FileFields) -> Iterator[Point]:
    yield from part.several("decode", DecodePoint)
    prompts = part.part("prefill_s")
    for tokens in prompts.values:
        if not re.fullmatch("[1-9][0-9]{0,6}", tokens):
            raise prompts.wrong(tokens, "a prompt's number of tokens, and its seconds")
        if (seconds := prompts.number(tokens, None)) is not None:
            yield PrefillPoint(int(tokens), seconds)
    yield from part.several("closed", ClosedPoint)


def _config(part: FileFields, weights: str) -> ModelConfig:
    """Return a run's model: by its config.json, its sizes, or a public one by its name."""
    name, given = part.text("shape") or "model", part.part("config").values
    config = None if given or "layers" in part.values else find_config(name)
    if config is None:
        spelt = KNOWLEDGE["spellings"] | {"tied": ["tie_word_embeddings"]}
        sizes = {spelt.get(key, [key])[0]: value for key, value in part.values.items()}
        config = ModelConfig.read(given or sizes, name)
    # Words such as "gptq int8, group 128", "awq" or "bf16"; others leave what the model has.
    bits = re.search("(?:int|w)([2348])|(?<![0-9])([2348])[ -]?bit", weights)
    group = re.search(r"group\D{0,9}(\d{1,5})", weights)
    if "fp8" in weights:
        return replace(config, quantization=Quantization("fp8", 8))
    if bits or re.search("gptq|awq|int", weights):
        stored = "awq" if "awq" in weights else "gptq", int(bits[1] or bits[2]) if bits else 4
        return replace(config, quantization=Quantization(*stored, int(group[1]) if group else 128))
    return replace(config, quantization=None) if re.search("16|half", weights) else config


def _kernel(quantization: Quantization | None, texts: tuple[str, ...]) -> str:
    """Return the kernel that the first of the texts names, if it can run such weights; else ""."""
    method = quantization.method if quantization else ""
    able = KERNELS_OF.get(method, ())
    for text in texts:
        named = re.search("exllama|marlin|machete", text)
        if named and (kernel := named[0].replace("machete", "marlin")) in able:
            return kernel
    return method if method in able and method in texts[0] else ""
