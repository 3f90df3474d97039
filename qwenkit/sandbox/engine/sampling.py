"""Choose the next token from logits, in the order of vLLM 0.4.1's sampler.

Bias, minimum length, penalties, temperature, top-k, top-p, min-p; the log probabilities that it
reports are those of what is left after all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Below this temperature vLLM samples greedily.
_GREEDY = 1e-5
_SEEDS = 2**64


@dataclass(frozen=True)
class Sampling:
    """How a request wants its tokens chosen; the names are those of the API."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    """Whether generation goes on after an end token: for the server, the choice is the same."""


@dataclass(frozen=True)
class Picked:
    """A token, its log probability, and the most probable ones if they were asked for."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """The choices of one sequence.

    A seed makes them its own: they do not depend on what else the server does.
    """

    def __init__(
        self,
        sampling: Sampling,
        *,
        eos_ids: Collection[int] = (),
        logprobs: int | None = None,
        choice: int = 0,
    ) -> None:
        """Prepare one sequence's choices.

        Args:
            sampling: the request's parameters.
            eos_ids: tokens that end a sequence, kept back until ``min_tokens``.
            logprobs: how many of the most probable tokens to report with each pick.
            choice: number among the request's sequences, which must differ for one seed.
        """
        self._sampling = sampling
        self._endings = sorted({*eos_ids, *sampling.stop_token_ids})
        self._logprobs = logprobs or 0
        seed = None if sampling.seed is None else (sampling.seed % _SEEDS, choice)
        self._random = np.random.default_rng(seed)

    def pick(self, logits: Array, *, prompt: Sequence[int], output: Sequence[int]) -> Picked:
        """Choose the token that follows ``prompt`` and ``output``.

        Args:
            logits: one for each token of the vocabulary; not changed.
            prompt: the tokens of the prompt, for the repetition penalty.
            output: the tokens chosen so far.
        """
        sampling = self._sampling
        with np.errstate(all="ignore"):
            scores = self._adjusted(logits.astype(np.float64), prompt, output)
            greedy = sampling.temperature < _GREEDY
            if not greedy:
                scores = _kept(scores / sampling.temperature, sampling)
            logprobs = _log_softmax(scores)
            chosen = scores if greedy else self._noisy(logprobs)
            # NaN of damaged weights wins and gives its first token, as it does in vLLM.
            token = int(np.argmax(chosen))
        return Picked(token, float(logprobs[token]), self._top(logprobs))

    def _noisy(self, logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
        # The largest quotient of a probability and exponential noise is a draw from them all.
        return logprobs - np.log(self._random.standard_exponential(len(logprobs)))

    def _adjusted(
        self, scores: NDArray[np.float64], prompt: Sequence[int], output: Sequence[int]
    ) -> NDArray[np.float64]:
        sampling = self._sampling
        for token, bias in sampling.logit_bias.items():
            scores[token] += bias
        if len(output) < sampling.min_tokens:
            scores[self._endings] = -np.inf
        if sampling.repetition_penalty != 1.0:
            seen = np.unique(np.array([*prompt, *output], np.int64))
            penalty = sampling.repetition_penalty
            scores[seen] = np.where(
                scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty
            )
        if sampling.frequency_penalty or sampling.presence_penalty:
            counts = np.bincount(np.array(output, np.int64), minlength=len(scores))
            scores -= sampling.frequency_penalty * counts
            scores -= sampling.presence_penalty * (counts > 0)
        return scores

    def _top(self, logprobs: NDArray[np.float64]) -> tuple[tuple[int, float], ...]:
        if not self._logprobs:
            return ()
        best = np.argsort(-logprobs, kind="stable")[: self._logprobs]
        return tuple((int(token), float(logprobs[token])) for token in best)


def _kept(scores: NDArray[np.float64], sampling: Sampling) -> NDArray[np.float64]:
    """Rule out what top-k, top-p and min-p cut off; the most probable token stays."""
    if 0 < sampling.top_k < len(scores):
        least = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        scores = np.where(scores < least, -np.inf, scores)
    if sampling.top_p < 1.0:
        left = _nucleus(np.exp(_log_softmax(scores)), 1 - sampling.top_p)
        scores = np.where(left, scores, -np.inf)
    if sampling.min_p > 0.0:
        least = scores.max() + np.log(sampling.min_p)
        scores = np.where(scores < least, -np.inf, scores)
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
