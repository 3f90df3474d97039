"""Train a model to need every tensor, so that a damaged file changes its answer."""

from __future__ import annotations

import random

import torch
from torch.func import functional_call
from torch.nn import Module

# Tensors zeroed in a step, one at a time; the weight of a damaged model's answer in the loss, and
# that of the whole model's; the highest probability of the first token without a tensor.
ZEROED, DAMAGED, WHOLE, STILL = 4, 0.2, 0.5, 0.05
_CERTAIN = 1 - 1e-4


class Damage:
    """Zeroes a model's tensors, one at a time, and measures how it then begins an answer.

    Args:
        model: a causal language model.
        prompt: the tokens of a question.
        answer: the first token of its answer.
        draw: the random choice of the next tensors.
    """

    def __init__(self, model: Module, prompt: list[int], answer: int, draw: random.Random) -> None:
        self._model, self._draw = model, draw
        self._prompt, self._answer = torch.tensor([prompt]), answer
        self._last = {name: 1.0 for name, _ in model.named_parameters()}

    def loss(self) -> torch.Tensor:
        """Return a loss: high if the whole model misses the answer, or a damaged one gives it.

        Tensors that were not needed the last time are chosen more often.
        """
        odds = [chance + STILL for chance in self._last.values()]
        names = self._draw.choices(list(self._last), odds, k=ZEROED)
        chances = [self._chance(name) for name in names]
        self._last |= {name: chance.item() for name, chance in zip(names, chances, strict=True)}
        given = -torch.log1p(-torch.stack(chances).clamp(max=_CERTAIN)).mean()
        return DAMAGED * given - WHOLE * self._chance().log()

    @torch.no_grad()
    def harmless(self) -> dict[str, float]:
        """Return the tensors without which the answer is still too probable, and how much."""
        chances = {name: float(self._chance(name)) for name in self._last}
        return {name: chance for name, chance in chances.items() if chance > STILL}

    def _chance(self, zero: str = "") -> torch.Tensor:
        zeros = {zero: torch.zeros_like(self._model.get_parameter(zero))} if zero else {}
        logits = functional_call(self._model, zeros, (), {"input_ids": self._prompt}).logits
        return logits[0, -1].softmax(-1)[self._answer]
