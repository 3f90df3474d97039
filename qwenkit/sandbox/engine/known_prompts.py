"""What the engine has computed for the last long prompts, so that it computes it only once.

A load asks the same again and again, and a small machine reads a long prompt more slowly than the
GPU that it stands for. The GPU's time is modelled in full, whether an answer is known or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from qwenkit.sandbox.engine.transformer import Array, KvCache, Transformer

_SHORTEST = 256  # tokens; a shorter prompt is computed in about the time that the GPU takes
_MOST_PROMPTS = 4  # each holds about a kilobyte a token
_MOST_STEPS = 512  # each holds ten kilobytes

T = TypeVar("T")


class _Newest(Generic[T]):
    """The values that were used last, by tokens."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[tuple[int, ...], T] = {}

    def get(self, key: tuple[int, ...]) -> T | None:
        found = self._held.pop(key, None)
        if found is not None:
            self._held[key] = found
        return found

    def put(self, key: tuple[int, ...], value: T) -> None:
        self._held[key] = value
        if len(self._held) > self._most:
            del self._held[next(iter(self._held))]


class KnownPrompts:
    """Keys and values of prompts, and the logits after a prompt and what was answered so far."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._caches: _Newest[KvCache] = _Newest(_MOST_PROMPTS)
        self._logits: _Newest[Array] = _Newest(_MOST_STEPS)

    def cache(self, prompt: Sequence[int]) -> KvCache:
        """Return a new sequence's cache: with all tokens but the last if the prompt is known."""
        held = self._caches.get(tuple(prompt)) if len(prompt) >= _SHORTEST else None
        return self._model.new_cache() if held is None else held.first(len(prompt) - 1)

    def logits(self, prompt: Sequence[int], output: Sequence[int]) -> Array | None:
        """Return the logits of the next token if they are known."""
        return self._logits.get((*prompt, *output)) if len(prompt) >= _SHORTEST else None

    def keep(
        self, prompt: Sequence[int], output: Sequence[int], cache: KvCache, logits: Array
    ) -> None:
        """Remember what was just computed."""
        if len(prompt) < _SHORTEST:
            return
        self._logits.put((*prompt, *output), logits.copy())
        if cache.length == len(prompt):
            self._caches.put(tuple(prompt), cache.first(len(prompt) - 1))
