"""What would fit, where a model does not: shorter, stored smaller, on more GPUs, on another GPU."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from qwenkit.capacity.catalogue import find_known, find_model
from qwenkit.capacity.gpu import GPUS, Gpu, Model, find_gpu
from qwenkit.capacity.memory import fit, v1_step_tokens
from qwenkit.capacity.model_config import ModelConfig

_SHORTEST = 256  # tokens: less serves nobody
_COUNTS = (1, 2, 4, 8)
_CARDS = sorted(GPUS.values(), key=lambda gpu: gpu.usable_gib)
_MACHINES = sorted(product(_CARDS, _COUNTS), key=lambda one: one[0].usable_gib * one[1])


def what_would_fit(
    gpu: Gpu | str, model: Model | ModelConfig | str, **setup: Any
) -> tuple[str, ...]:
    """Return changes of which each alone makes the model fit; the cheapest for the user first.

    Each names the setting, as ``--set`` takes it. Where no single change helps, each is of
    several. Empty if it fits, or if nothing in the tables holds it. ``setup``: as of ``fit``.

    >>> what_would_fit("V100-16", "Qwen1.5-7B-Chat")[:2]
    ('model_source=modelscope:Qwen/Qwen1.5-7B-Chat-GPTQ-Int8', 'gpu_count=2')

    Raises:
        InvalidValue: unknown GPU or model, or a setting outside its range.
    """
    gpu, model = find_gpu(gpu), find_model(model)
    if fit(gpu, model, **setup).fits:
        return ()
    return tuple(_single(gpu, model, setup)) or tuple(_several(model, setup))


def _on(card: Gpu, setup: dict[str, Any]) -> dict[str, Any]:
    """Return the setup with the steps that vLLM takes on a card; a V100 has no V1 engine."""
    steps = v1_step_tokens(card) if card.compute_capability >= 7.5 else None
    return setup if setup.get("batched_tokens") is None else {**setup, "batched_tokens": steps}


def _single(gpu: Gpu, model: Model, setup: dict[str, Any]) -> Iterator[str]:
    low, high = 0, setup.get("max_model_len", 6144)
    while high - low > 16:
        middle = (low + high) // 2
        fits = fit(gpu, model, **{**setup, "max_model_len": middle}).fits
        low, high = (middle, high) if fits else (low, middle)
    if low >= _SHORTEST:
        yield f"max_model_len={low}"
    stored = (name for name, one in _smaller(model) if fit(gpu, one, **setup).fits)
    yield from [f"model_source={name}" for name in [next(stored, "")] if name]
    now = setup.get("gpus", 1)
    nearest = sorted(_COUNTS, key=lambda count: (count < now, abs(count - now)))
    counts = (count for count in nearest if fit(gpu, model, **{**setup, "gpus": count}).fits)
    yield from [f"gpu_count={count}" for count in [next(counts, 0)] if count]
    cards = (card.name for card in _CARDS if fit(card, model, **_on(card, setup)).fits)
    yield from [f"gpu={card}" for card in [next(cards, "")] if card]


def _several(model: Model, setup: dict[str, Any]) -> Iterator[str]:
    """Yield the smallest machine that holds the model, and the smallest for each sibling."""
    for name, one in [("", model), *_smaller(model)]:
        for gpu, count in _MACHINES:
            if fit(gpu, one, **{**_on(gpu, setup), "gpus": count}).fits:
                source = f", model_source={name}" if name else ""
                yield f"gpu={gpu.name}, gpu_count={count}{source}"
                break


def _smaller(model: Model) -> Iterator[tuple[str, Model]]:
    known = find_known(model.name)
    for name in known.siblings if known else ():
        one = find_model(name)
        if known and one.weights_bytes < model.weights_bytes:
            yield f"{known.hub}/{name}", one
