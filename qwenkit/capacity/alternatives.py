"""What would fit, where a model does not: shorter, stored smaller, on more GPUs, on another GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from qwenkit.capacity.catalogue import find_known, find_model
from qwenkit.capacity.gpu import GPUS, Gpu, Model, find_gpu
from qwenkit.capacity.memory import LEAST_CAPABILITY, fit
from qwenkit.capacity.model_config import ModelConfig

_SHORTEST = 256  # tokens: less serves nobody
_COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class _Try:
    gpu: Gpu
    model: Model
    gpus: int
    max_model_len: int
    share: float
    batched_tokens: int | None

    def fits(self) -> bool:
        held = fit(
            self.gpu,
            self.model,
            gpus=self.gpus,
            max_model_len=self.max_model_len,
            gpu_memory_utilization=self.share,
            batched_tokens=self.batched_tokens,
        )
        needed = LEAST_CAPABILITY.get(self.model.quantization, 0)
        return held.fits and self.gpu.compute_capability >= needed


def what_would_fit(
    gpu: Gpu | str,
    model: Model | ModelConfig | str,
    *,
    gpus: int = 1,
    max_model_len: int = 6144,
    gpu_memory_utilization: float = 0.95,
    batched_tokens: int | None = None,
) -> tuple[str, ...]:
    """Return changes of which each alone makes the model fit; the cheapest for the user first.

    Each names the setting, as ``--set`` takes it. Where no single change helps, the last one is
    of several. Empty if it fits, or if nothing in the tables holds it.

    >>> what_would_fit("V100-16", "Qwen1.5-7B-Chat")[:2]
    ('model_source=modelscope:qwen/Qwen1.5-7B-Chat-GPTQ-Int8', 'gpu_count=2')

    Raises:
        InvalidValue: unknown GPU or model, or a setting outside its range.
    """
    share, held = gpu_memory_utilization, find_model(model)
    now = _Try(find_gpu(gpu), held, gpus, max_model_len, share, batched_tokens)
    if now.fits():
        return ()
    return tuple(_single(now)) or tuple(_several(now))


def _single(now: _Try) -> Iterator[str]:
    longest = _longest(now)
    if longest:
        yield f"max_model_len={longest}"
    for name, one in _siblings(now):
        if one.fits():
            yield f"model_source={name}"
            break
    nearest = sorted(_COUNTS, key=lambda count: (count < now.gpus, abs(count - now.gpus)))
    more = next((count for count in nearest if replace(now, gpus=count).fits()), None)
    if more:
        yield f"gpu_count={more}"
    card = next(filter(_Try.fits, _cards(now)), None)
    if card:
        yield f"gpu={card.gpu.name}"


def _several(now: _Try) -> Iterator[str]:
    """Yield the smallest machine that holds the model, and the smallest for a sibling."""
    for name, one in [("", now), *_siblings(now)]:
        machines = [replace(card, gpus=count) for card in _cards(one) for count in _COUNTS]
        machines.sort(key=lambda machine: machine.gpu.usable_gib * machine.gpus)
        found = next(filter(_Try.fits, machines), None)
        if found:
            source = f", model_source={name}" if name else ""
            yield f"gpu={found.gpu.name}, gpu_count={found.gpus}{source}"


def _cards(now: _Try) -> list[_Try]:
    larger = sorted(GPUS.values(), key=lambda gpu: gpu.usable_gib)
    return [replace(now, gpu=gpu) for gpu in larger if gpu.name != now.gpu.name]


def _siblings(now: _Try) -> Iterator[tuple[str, _Try]]:
    known = find_known(now.model.name)
    for name in known.siblings if known else ():
        model = find_model(name)
        if known and model.weights_bytes < now.model.weights_bytes:
            yield f"modelscope:{known.owner}/{name}", replace(now, model=model)


def _longest(now: _Try) -> int:
    """Return the largest ``max_model_len`` that fits, 0 if none of use does."""
    low, high = 0, now.max_model_len
    while high - low > 16:
        middle = (low + high) // 2
        low, high = (middle, high) if replace(now, max_model_len=middle).fits() else (low, middle)
    return low if low >= _SHORTEST else 0
