"""What was measured of vLLM on a card: decode steps, prompts, closed loops, KV cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qwenkit.autoscaling.recording import read_recording
from qwenkit.capacity.catalogue import find_config
from qwenkit.capacity.file_fields import FileFields
from qwenkit.capacity.gpu import CPU, Gpu, Model, Speed, gpu_of_label
from qwenkit.capacity.model_config import KNOWLEDGE, ModelConfig, Quantization
from qwenkit.capacity.step_time import KERNELS_OF, StepTime

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

    The times of runs without CUDA graphs are the host's: they count if these are ``eager``.
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
        version = re.search(r"vllm[ v]*0\.(\d+)", file.get("engine", ""), re.I)
        card, runs = file.part("card"), file.part("runs")
        names = runs.values if card.values and file.part("model").values else ()
        return cls(
            read_card(card) if card.values else CPU,
            tuple(_run(file, runs.part(name), name) for name in names),
            file.get("v1", not version or int(version[1]) >= 8),
        )


def _content(path: Path) -> FileFields:
    file = FileFields(read_recording(path), path.name)
    return file.part("measured") if "measured" in file.values else file


def read_card(card: FileFields) -> Gpu:
    """Return a card by its name in our table, else by its datasheet's figures.

    Raises:
        InvalidValue: one of these is missing.
    """
    name = card.get("name", "card")
    return gpu_of_label(name) or Gpu(name, *map(card.number, ("usable_gib", *_DATASHEET)))


def _run(file: FileFields, part: FileFields, name: str) -> Run:
    told = part.get("kernel", ""), part.get("weights", ""), file.get("engine", "")
    texts = [text[:400].lower() for text in told]
    config = _config(file.part("model"))
    config = replace(config, quantization=_quantization(texts[1], config.quantization))
    prompts = part.part("prefill_s")
    if wrong := [one for one in prompts.values if not re.fullmatch("[1-9][0-9]{0,6}", one)]:
        raise prompts.wrong(wrong[0], "a prompt's number of tokens, and its seconds")
    alone = ((int(tokens), prompts.number(tokens, 0)) for tokens in prompts.values)
    points = [
        *part.several("decode", DecodePoint),
        *(PrefillPoint(*one) for one in alone if one[1]),
        *part.several("closed", ClosedPoint),
    ]
    run: Run = part.make(
        Run,
        name=name,
        model=config.model().split(part.number("gpus", 1, whole=True)),
        points=tuple(points),
        kernel=_kernel(config.quantization, texts),
        **{flag: part.get(flag, False) for flag in ("eager", "chunked_prefill")},
    )
    return run


def _config(part: FileFields) -> ModelConfig:
    """Return a model by its config.json, its sizes, or as a public one by its name."""
    name, given = part.get("shape", "model"), part.part("config").values
    if not given and "layers" not in part.values and (known := find_config(name)):
        return known
    spelt = KNOWLEDGE["spellings"] | {"tied": ["tie_word_embeddings"]}
    sizes = {spelt.get(key, [key])[0]: value for key, value in part.values.items()}
    return ModelConfig.read(given or sizes, name)


def _quantization(words: str, own: Quantization | None) -> Quantization | None:
    """Read words such as "gptq int8, group 128", "awq" or "bf16"; others leave the model's own."""
    bits = re.search("(?:int|w)([2348])|(?<![0-9])([2348])[ -]?bit", words)
    group = re.search(r"group\D{0,9}(\d{1,5})", words)
    if "fp8" in words:
        return Quantization("fp8", 8)
    if bits or re.search("gptq|awq|int", words):
        stored = "awq" if "awq" in words else "gptq", int(bits[1] or bits[2]) if bits else 4
        return Quantization(*stored, int(group[1]) if group else 128)
    return None if re.search("16|half", words) else own


def _kernel(quantization: Quantization | None, texts: Sequence[str]) -> str:
    """Return the kernel that the first of the texts names, if it can run such weights; else ""."""
    method = quantization.method if quantization else ""
    able = KERNELS_OF.get(method, ())
    named = [re.search("exllama|marlin|machete", text) for text in texts]
    found = [one[0].replace("machete", "marlin") for one in named if one]
    found += [method] if method in texts[0] else []
    return next((kernel for kernel in found if kernel in able), "")
