"""What was measured of vLLM on a card: decode steps, prompts, closed loops, KV cache."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from qwenkit.autoscaling.recording import read_recording
from qwenkit.capacity.catalogue import find_config
from qwenkit.capacity.gpu import Gpu, Model, gpu_of_label
from qwenkit.capacity.model_config import ModelConfig, Quantization
from qwenkit.errors import InvalidValue

_MOST_SECONDS, _MOST_CLIENTS = 3600, 10_000
_SIZES = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocabulary")
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
    seconds: float
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

    def timed(self, run: Run) -> bool:
        """Return whether the times of a run count."""
        return self.eager or not run.eager

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
            given = {name: value for name, value in file.values.items() if value is not None}
            shared = {name: _content(like).values.get(name) for name in ("card", "model", "engine")}
            file.values = {**shared, **given}
        return cls.of(file)

    @classmethod
    def of(cls, file: FileFields) -> Measurements:
        """Read what such a file holds; any part of it may be missing or empty."""
        version = re.search(r"vllm[ v]*0\.(\d+)", file.text("engine"), re.I)
        runs = file.part("runs")
        return cls(
            read_card(file.part("card")),
            tuple(_run(file, runs.part(name), name) for name in runs.values),
            bool(file.values.get("v1", version is None or int(version[1]) >= 8)),
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

    def parts(self, name: str) -> Iterable[FileFields]:
        """Return the objects of a list, none if it is missing."""
        found = self.values.get(name) or []
        if not isinstance(found, list):
            raise self.wrong(name, "a list")
        return (FileFields(one, f"{self.where}: {name}[{at}]") for at, one in enumerate(found))

    def make(self, kind: Any, **given: Any) -> Any:
        """Return a dataclass; what is not given is read from the fields of its names."""
        for each in fields(kind):
            default = ... if each.default is MISSING else each.default
            if each.name not in given:
                whole = str(each.type).startswith("int")
                given[each.name] = self.number(each.name, default, whole=whole)
        return kind(**given)

    def number(self, name: str, default: Any = ..., *, whole: bool = False) -> Any:
        """Return a positive number; the default, if there is one, where it is missing."""
        value = self.values.get(name)
        if value is None and default is not ...:
            return default
        kind = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or not 1e-9 < value < 1e9:
            raise self.wrong(name, f"a {'whole ' * whole}number from 1e-9 to 1e9")
        return value

    def text(self, name: str) -> str:
        """Return a text, "" where it is missing."""
        return str(self.values.get(name) or "")[:400]

    def wrong(self, name: str, rule: str) -> InvalidValue:
        """Return the error of a field."""
        value, fix = self.values.get(name), f"correct {name} in the file"
        return InvalidValue(f"{self.where}: {name}", value, rule, fix)


def _content(path: Path) -> FileFields:
    file = FileFields(read_recording(path), path.name)
    return file.part("measured") if "measured" in file.values else file


def read_card(card: FileFields) -> Gpu:
    """Return a card by its name in our table, else by its datasheet's figures.

    Raises:
        InvalidValue: one of these is missing.
    """
    name = card.text("name")
    known, usable = gpu_of_label(name), "usable_gib"
    return known or Gpu(name or "card", card.number(usable), *map(card.number, _DATASHEET))


def _run(file: FileFields, part: FileFields, name: str) -> Run:
    weights = part.text("weights").lower()
    model, kernel = _model(file.part("model"), part, weights), part.text("kernel")
    if not kernel and model.quantization == "gptq" and "marlin" not in weights:
        kernel = "exllama" if "exllama" in weights + file.text("engine") else ""
    switches = {each: part.values.get(each) is True for each in ("eager", "chunked_prefill")}
    given = {"name": name, "model": model, "points": tuple(_points(part)), "kernel": kernel}
    run: Run = part.make(Run, **given, **switches)
    return run


def _points(part: FileFields) -> Iterable[Point]:
    yield from (at.make(DecodePoint) for at in part.parts("decode"))
    prompts = part.part("prefill_s")
    for tokens in prompts.values:
        if not re.fullmatch("[1-9][0-9]{0,8}", tokens):
            raise prompts.wrong(tokens, "a prompt's number of tokens, and its seconds")
        yield PrefillPoint(int(tokens), prompts.number(tokens))
    for at in part.parts("closed"):
        point = at.make(ClosedPoint)
        if point.seconds > _MOST_SECONDS or point.clients > _MOST_CLIENTS:
            rule = f"of at most {_MOST_SECONDS:,} s and {_MOST_CLIENTS:,} clients: it is simulated"
            raise at.wrong("seconds", rule)
        yield point


def _model(part: FileFields, run: FileFields, weights: str) -> Model:
    """Return a run's model: by its config.json, its sizes, or a public one by its name."""
    name = part.text("shape") or "model"
    config = None if "layers" in part.values else find_config(name)
    if "config" in part.values:
        config = ModelConfig.read(part.part("config").values, name)
    elif config is None:
        sizes = {size: part.number(size, whole=True) for size in _SIZES}
        config = ModelConfig(name=name, architecture="", **sizes)
    if weights:
        config = replace(config, quantization=_quantization(run, weights))
    return config.model().split(run.number("gpus", 1, whole=True))


def _quantization(part: FileFields, weights: str) -> Quantization | None:
    """Read words such as "gptq int8, group 128"."""
    method = re.search("fp16|bf16|gptq|awq|fp8|int", weights)
    bits, group = re.search("int([2348])", weights), re.search(r"group\D*(\d+)", weights)
    if not method:
        raise part.wrong("weights", 'such as "fp16", "gptq int8, group 128" or "awq"')
    if method[0] == "fp8":
        return Quantization("fp8", 8)
    if method[0].endswith("16"):
        return None
    kind = "gptq" if method[0] == "int" else method[0]
    return Quantization(kind, int(bits[1]) if bits else 4, int(group[1]) if group else 128)
