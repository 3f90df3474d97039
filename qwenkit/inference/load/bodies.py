"""What the requests of a load ask: one prompt, or prompts of drawn lengths."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from qwenkit.capacity.simulation.traffic import Arrival, Lengths
from qwenkit.inference.client import Server

# Each is one token in the vocabularies of Qwen, Llama and GPT, and of the sandbox's model.
_WORDS = ["the", "be", "to", "of", "and", "a", "in", "that", "have", "it", "for", "not", "on"]
# What a chat template adds to one message.
_TEMPLATE_TOKENS = 10
# At the end of a body, so that it can be taken off again.
_COUNTS = b', "stream_options": {"include_usage": true}}'


class Bodies:
    """Makes the JSON of each request.

    Without ``prompt`` a request asks random words, one token each; without ``max_tokens`` it asks
    for its arrival's output tokens. The same seed makes the same bodies in the same order.
    """

    def __init__(
        self,
        server: Server,
        *,
        prompt: str | None,
        max_tokens: int | None,
        seed: int,
        sampling: dict[str, Any],
    ) -> None:
        self._server, self._prompt, self._max_tokens = server, prompt, max_tokens
        self._sampling, self._random = sampling, Random(seed)

    def draw(self, at: float, lengths: Lengths) -> Arrival:
        """Return a request of a closed loop."""
        return lengths.draw(at, self._random)

    def make(self, arrival: Arrival) -> bytes:
        """Return a request's body, which asks for the token counts."""
        prompt = self._prompt
        if prompt is None:
            count = max(1, arrival.prompt_tokens - _TEMPLATE_TOKENS)
            prompt = " ".join(self._random.choices(_WORDS, k=count))
        most = arrival.output_tokens if self._max_tokens is None else self._max_tokens
        asked = self._server.body(prompt, max_tokens=most, **self._sampling) | {"stream": True}
        return json.dumps(asked, ensure_ascii=False).encode()[:-1] + _COUNTS


def asks_for_counts(body: bytes) -> bool:
    """Return whether a body asks for token counts in the stream."""
    return body.endswith(_COUNTS)


def without_counts(body: bytes) -> bytes:
    """Return a body for servers that refuse ``stream_options``."""
    return body.removesuffix(_COUNTS) + b"}" if asks_for_counts(body) else body
