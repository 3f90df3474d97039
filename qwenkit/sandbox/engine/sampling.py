"""Choose the next token from logits, in the order of vLLM 0.4.1's sampler.

Penalties, temperature, top-k, top-p; the reported log probabilities are those of what is left
after all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Below this temperature vLLM samples greedily.
_GREEDY = 1e-5
_SEEDS = 2**64


@dataclass(frozen=True)
class SamplingParams:
    """How a request's tokens are chosen; the names are those of the API."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class SampledToken:
    """A token, its log probability, and the most probable ones if the request wants them."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """The choices of one sequence.

    With a seed they do not depend on what else the server computes.
    """

    def __init__(
        self, params: SamplingParams, *, logprobs: int | None = None, choice: int = 0
    ) -> None:
        """Prepare one sequence's choices.

        Args:
            params: the request's parameters.
            logprobs: how many of the most probable tokens to report with each token.
            choice: number among the request's sequences, which must differ for one seed.
        """
        self._params = params
        self._logprobs = logprobs or 0
        seed = None if params.seed is None else (params.seed % _SEEDS, choice)
        self._random = np.random.default_rng(seed)

    def sample(
        self, logits: Array, *, prompt: Sequence[int], output: Sequence[int]
    ) -> SampledToken:
        """Choose the token that follows ``prompt`` and ``output``.

        Args:
            logits: one for each token of the vocabulary; not changed.
            prompt: the tokens of the prompt, for the repetition penalty.
            output: the tokens chosen so far.
        """
        params = self._params
        with np.errstate(all="ignore"):
            scores = self._penalised(logits.astype(np.float64), prompt, output)
            greedy = params.temperature < _GREEDY
            if not greedy:
                scores = _truncated(scores / params.temperature, params)
            logprobs = _log_softmax(scores)
            chosen = scores if greedy else self._noisy(logprobs)
            # NaN of damaged weights wins and gives its first token, as it does in vLLM.
            token = int(np.argmax(chosen))
        return SampledToken(token, float(logprobs[token]), self._top(logprobs))

    def _noisy(self, logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
        # The largest quotient of a probability and exponential noise is a draw from them all.
        return logprobs - np.log(self._random.standard_exponential(len(logprobs)))

    def _penalised(
        self, scores: NDArray[np.float64], prompt: Sequence[int], output: Sequence[int]
    ) -> NDArray[np.float64]:
        params = self._params
        if params.repetition_penalty != 1.0:
            seen = np.unique(np.array([*prompt, *output], np.int64))
            penalty = params.repetition_penalty
            scores[seen] = np.where(
                scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty
            )
        if params.frequency_penalty or params.presence_penalty:
            counts = np.bincount(np.array(output, np.int64), minlength=len(scores))
            scores -= params.frequency_penalty * counts
            scores -= params.presence_penalty * (counts > 0)
        return scores

    def _top(self, logprobs: NDArray[np.float64]) -> tuple[tuple[int, float], ...]:
        if not self._logprobs:
            return ()
        best = np.argsort(-logprobs, kind="stable")[: self._logprobs]
        return tuple((int(token), float(logprobs[token])) for token in best)


def _truncated(scores: NDArray[np.float64], params: SamplingParams) -> NDArray[np.float64]:
    """Rule out what top-k and top-p cut off; the most probable token stays."""
    if 0 < params.top_k < len(scores):
        least = np.partition(scores, -params.top_k)[-params.top_k]
        scores = np.where(scores < least, -np.inf, scores)
    if params.top_p < 1.0:
        left = _nucleus(np.exp(_log_softmax(scores)), 1 - params.top_p)
        scores = np.where(left, scores, -np.inf)
    return scores


def _nucleus(shares: NDArray[np.float64], cut: float) -> NDArray[np.bool_]:
    """Return which tokens stay when the least probable go that together make up ``cut``."""
    # Those below an equal part of the cut go anyway: few are left to sort.
    left = shares > cut / len(shares)
    order = np.flatnonzero(left)
    order = order[np.argsort(shares[order], kind="stable")]
    below = shares[~left].sum() + np.cumsum(shares[order]) <= cut
    left[order[:-1][below[:-1]]] = False
    return left


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max()
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result
