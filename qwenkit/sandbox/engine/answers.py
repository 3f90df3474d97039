"""Compute a request's answers: one sequence each, the echo before it, the best of several."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import numpy as np

from qwenkit.sandbox.engine.asks import Ask, Prompt
from qwenkit.sandbox.engine.batch import Batch
from qwenkit.sandbox.engine.checkpoint import Checkpoint
from qwenkit.sandbox.engine.metrics import Metrics
from qwenkit.sandbox.engine.replies import Part
from qwenkit.sandbox.engine.sampling import Picked, Sampler
from qwenkit.sandbox.engine.tokens import Output
from qwenkit.sandbox.engine.transformer import Transformer


class Answers:
    """What one engine answers."""

    def __init__(self, checkpoint: Checkpoint, batch: Batch, metrics: Metrics) -> None:
        self._model, self._text = checkpoint.model, checkpoint.text
        self._batch, self._metrics = batch, metrics

    async def stream(self, ask: Ask, prompt: Prompt, number: int) -> AsyncGenerator[Part, None]:
        """Yield one of a prompt's answers, a part for each token, and count how it ended.

        A completion's echo comes with the first token.
        """
        clock = asyncio.get_running_loop().time
        arrived, reason, made = clock(), "abort", 0
        try:
            echo, picks = await self._echo(ask, prompt)
            sampler = Sampler(
                ask.sampling, eos_ids=self._text.eos_ids, logprobs=ask.logprobs, choice=number
            )
            deltas = self._batch.generate(prompt.tokens, sampler, Output(ask, self._text))
            async with aclosing(deltas):
                async for delta in deltas:
                    made, reason = made + 1, delta.finish_reason or reason
                    text = "" if ask.prompt_only else delta.text
                    picks = picks if ask.prompt_only else (*picks, delta.picked)
                    yield Part(echo + text, picks, delta.finish_reason, delta.stop_reason)
                    echo, picks = "", ()
        finally:
            self._metrics.ended(
                reason, prompt=len(prompt.tokens), made=made, seconds=clock() - arrived
            )

    async def best(self, ask: Ask, prompt: Prompt) -> list[list[Part]]:
        """Return the parts of the ``n`` answers to give."""
        answers = await asyncio.gather(
            *(self._collected(ask, prompt, number) for number in range(ask.sequences))
        )
        if ask.sequences > ask.n:
            answers.sort(key=_likelihood, reverse=True)
        return answers[: ask.n]

    async def _collected(self, ask: Ask, prompt: Prompt, number: int) -> list[Part]:
        async with aclosing(self.stream(ask, prompt, number)) as parts:
            return [part async for part in parts]

    async def _echo(self, ask: Ask, prompt: Prompt) -> tuple[str, tuple[Picked, ...]]:
        if ask.chat or not ask.echo:
            return "", ()
        if ask.logprobs is None:
            return prompt.echo, ()
        # A pass over the whole prompt, beside the batch: not for the event loop.
        picks = await asyncio.to_thread(_read, self._model, prompt.tokens, ask.logprobs)
        return prompt.echo, picks


def joined(parts: Sequence[Part]) -> Part:
    """Return a whole answer."""
    return Part(
        "".join(part.text for part in parts),
        tuple(picked for part in parts for picked in part.picks),
        parts[-1].finish_reason,
        parts[-1].stop_reason,
    )


def _likelihood(parts: Sequence[Part]) -> float:
    return sum(part.picks[-1].logprob for part in parts if part.picks)


def _read(model: Transformer, tokens: Sequence[int], top: int) -> tuple[Picked, ...]:
    """Return a prompt's tokens with their log probabilities; the first one has none."""
    logits = model.logits(tokens).astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    best = np.argsort(-logprobs, axis=1, kind="stable")[:, :top]
    picks = [Picked(tokens[0], math.nan)]
    for token, row, first in zip(tokens[1:], logprobs, best, strict=False):
        tops = tuple((int(one), float(row[one])) for one in first)
        picks.append(Picked(token, float(row[token]), tops))
    return tuple(picks)
