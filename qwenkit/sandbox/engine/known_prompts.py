"""The keys and values of the last long prompts, so that this machine computes each only once.

A load asks the same again and again, and a small machine reads a long prompt more slowly than the
GPU that it stands for. The GPU's time is modelled in full, whether a prompt is known or not.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenkit.sandbox.engine.transformer import KvCache, Transformer

_SHORTEST = 256  # tokens; a shorter prompt is computed in less time than the GPU takes
_MOST = 4  # prompts; each holds about a kilobyte a token


class KnownPrompts:
    """Prompts by their tokens. Give back a copy: a sequence writes into its cache."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._held: dict[tuple[int, ...], KvCache] = {}

    def cache(self, prompt: Sequence[int]) -> KvCache:
        """Return a new sequence's cache: of all tokens but the last if the prompt is known."""
        key = tuple(prompt)
        held = self._held.pop(key, None)
        if held is None:
            return self._model.new_cache()
        self._held[key] = held  # the newest again
        return held.first(len(prompt) - 1)

    def keep(self, prompt: Sequence[int], cache: KvCache) -> None:
        """Remember a prompt that was just computed."""
        key = tuple(prompt)
        if len(key) < _SHORTEST or key in self._held or cache.length != len(key):
            return
        self._held[key] = cache.first(len(key) - 1)
        while len(self._held) > _MOST:
            del self._held[next(iter(self._held))]
