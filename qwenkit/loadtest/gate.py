"""Is a candidate good enough to get more of the requests? Measurements in, a verdict out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from textwrap import shorten

QUESTIONS = ("杭州西湖", "你好", "Who are you?")
_FEWEST_LETTERS, _LONGEST = 4, 150


@dataclass(frozen=True)
class CanaryStep:
    """What a candidate did with a share of the traffic, and what the gate said to it.

    ``requests`` are its own; ``goodput`` is the percentage of them that had their first token
    within the objective; ``ttft_p95_s`` is the GPU's own time; ``failed`` requests have a
    ``cause``; ``wrong`` are answers that are not as they must be.
    """

    revision: str
    share: int
    requests: int
    goodput: float
    ttft_p95_s: float | None
    failed: int = 0
    cause: str = ""
    wrong: tuple[str, ...] = ()
    gate: str = ""
    why: str = ""


@dataclass(frozen=True)
class Gate:
    """What a candidate must keep to get more requests.

    ``ttft_p95_s`` is in seconds of the GPU's own time. ``requests`` are at least needed: of fewer
    than 20 a p95 is the slowest one. The share ``failed`` of them may fail.

    >>> from qwenkit import Gate
    >>> Gate(ttft_p95_s=5).requests
    20
    """

    ttft_p95_s: float
    requests: int = 20
    failed: float = 0.05

    def judge(self, step: CanaryStep) -> CanaryStep:
        """Return the step with the verdict, ``passed`` or ``held``, and its reason."""
        why = self._against(step)
        return replace(
            step, gate="held" if why else "passed", why=shorten(why, _LONGEST, placeholder=" …")
        )

    def is_failed(self, failed: int, requests: int) -> bool:
        """Return whether too many have failed, whatever the others do."""
        return failed > self.failed * max(requests, self.requests)

    def _against(self, step: CanaryStep) -> str:
        if step.wrong:
            return f"{len(step.wrong)} of {len(QUESTIONS)} answers are wrong: {step.wrong[0]}"
        if self.is_failed(step.failed, step.requests):
            return f"{step.failed} of {step.requests} requests failed: {step.cause}"
        if step.requests < self.requests or step.ttft_p95_s is None:
            return f"{step.requests} requests are too few: {self.requests} are needed"
        if step.ttft_p95_s > self.ttft_p95_s:
            return f"TTFT p95 is {step.ttft_p95_s:.3g} s; the objective is {self.ttft_p95_s:g} s"
        return ""


def wrong_answer(question: str, text: str, expected: str = "") -> str:
    """Return what is wrong with an answer, empty if nothing is.

    The words of ``expected`` count if there are any, else its form: a model whose weights are
    wrong repeats itself, or answers in no language.
    """
    shown, letters = f"{question} → {text[:40]!r}", {each for each in text if each.isalpha()}
    if len(letters) < _FEWEST_LETTERS or _is_chinese(question) != _is_chinese(text):
        return shown
    return f"{shown}, not {expected[:40]!r}" if expected not in ("", text) else ""


def _is_chinese(text: str) -> bool:
    letters = [each for each in text if each.isalpha()]
    return sum("\u4e00" <= each <= "\u9fff" for each in letters) * 2 > len(letters)
