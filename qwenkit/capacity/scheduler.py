"""vLLM's scheduler: which sequences a step computes, how many tokens of each, and the KV blocks.

Two schedulers, equal to vLLM's own classes step by step (``compare_steps`` shows it): that of
0.4.1, where a step reads prompts or decodes, and V1 (0.8 and later), where a step does both and a
long prompt is read in chunks. Both take sequences in order of arrival and preempt the last one,
which is computed anew later.

Between two events (a sequence comes, ends or is dropped, or blocks run short) every running
sequence decodes one token a step. Such steps can be taken many at once: what grows with each of
them is kept as the number of ``rounds`` of decoding, not in each sequence.

Sources: ``vllm/core/scheduler.py`` and ``block_manager_v1.py`` of 0.4.1,
``vllm/v1/core/sched/scheduler.py`` and ``kv_cache_manager.py`` of 0.32. Not modelled: prefix
caching, speculative decoding, swapping, priorities, limits of long prefills, the chunked prefill
of releases before V1, and that asynchronous scheduling frees blocks one step later.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, islice
from typing import Any

V1 = (0, 8)
_WHOLE_PROMPT = (0, 19)  # from here on V1 admits a prompt only if all its chunks fit
_WATERMARK = 0.01  # 0.4.1 keeps this share of the blocks free when it admits a prompt


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """The bounds of a step and of the KV cache: vLLM's flags of these names.

    V1 keeps one of the ``num_blocks`` for itself.
    """

    block_size: int
    num_blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    chunked_prefill: bool = True


@dataclass(slots=True, eq=False)
class ScheduledSequence:
    """A request: the tokens of its prompt and of its answer.

    An answer of unknown length is infinite; its sequence runs until it is dropped.
    """

    name: Any
    prompt: int
    answer: float = math.inf
    tokens: int = 0
    """Of prompt and answer, while it does not decode."""
    computed: int = 0
    """Of these, how many the KV cache holds; less ``rounds`` while it decodes."""
    end: float = -1
    """The round after which it has its whole answer; -1 while it does not decode."""


@dataclass(slots=True, eq=False)
class Step:
    """What one step computes; of ``steps`` that decode, taken at once, what the first does."""

    rows: int
    """Tokens in all."""
    sequences: int
    kv_tokens: int
    """In the KV cache after the step, of these sequences."""
    prefill_tokens: int = 0
    prefill_pairs: int = 0
    """Of a prompt's token and one that it attends to."""
    steps: int = 1
    prefills: list[tuple[ScheduledSequence, int]] = field(default_factory=list)
    preempted: Sequence[ScheduledSequence] = ()
    ignored: Sequence[ScheduledSequence] = ()
    """Those that no empty cache would hold: 0.4.1 ends them without an answer."""


class BatchScheduler:
    """The sequences of one server. Call ``schedule`` once a step.

    What a step makes of the sequences is booked when it is scheduled; the blocks of those that
    have their last token are freed when the next one is.
    """

    def __init__(self, limits: SchedulerLimits) -> None:
        self.limits = limits
        self.free_blocks = limits.num_blocks
        self.running: dict[ScheduledSequence, None] = {}
        self.waiting: deque[ScheduledSequence] = deque()
        self._size = limits.block_size
        self._partial: ScheduledSequence | None = None  # whose prompt is read; the last running
        self._rounds = 0
        self._computed = 0  # of all that decode, less the rounds of each
        # How many of them need a block in the rounds with this remainder by the block size.
        self._due = [0] * self._size
        self._ends: list[tuple[float, int, ScheduledSequence]] = []
        self._numbers = count()
        self._longest = math.inf

    def add(self, sequence: ScheduledSequence) -> None:
        """Let a sequence wait."""
        sequence.tokens = sequence.prompt
        self.waiting.append(sequence)

    def drop(self, sequence: ScheduledSequence) -> None:
        """Forget a sequence, wherever it is, and free its blocks."""
        if sequence in self.running:
            self._leave(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def release(self) -> list[ScheduledSequence]:
        """Free the blocks of the sequences that have their last token; return these."""
        ended, ends = [], self._ends
        while ends and ends[0][0] <= self._rounds:
            end, _, sequence = heappop(ends)
            if sequence.end == end:  # not preempted or dropped meanwhile
                self._leave(sequence)
                ended.append(sequence)
        return ended

    def schedule(self, most: float = 1) -> Step:
        """Book the next step, or up to ``most`` steps if all of them only decode."""
        raise NotImplementedError

    def scheduled(self, step: Step) -> list[tuple[ScheduledSequence, int]]:
        """Return each sequence of the step that was just scheduled, with its tokens."""
        decode = islice(self.running, step.sequences - len(step.prefills))
        return [*((each, 1) for each in decode), *step.prefills]

    def cut(self, step: Step, steps: int) -> None:
        """Take back all but the first of the steps that were just scheduled at once."""
        more = step.steps - steps
        self._rounds -= more
        self.free_blocks += self._needed(more)
        step.steps = steps

    def _leave(self, sequence: ScheduledSequence) -> None:
        """Take a sequence out of the running ones and free its blocks."""
        del self.running[sequence]
        if sequence is self._partial:
            self._partial = None
        else:
            self._due[-sequence.computed % self._size] -= 1
            self._computed -= sequence.computed
            sequence.computed += self._rounds
            sequence.tokens = sequence.computed + 1
        self.free_blocks += self._blocks(sequence.computed)
        sequence.end = -1

    def _preempt(self) -> ScheduledSequence:
        """Put the last running sequence back; all its tokens are computed anew later."""
        last = next(reversed(self.running))
        self._leave(last)
        last.computed = 0
        self.waiting.appendleft(last)
        return last

    def _decode(self) -> Step:
        """Book one token for each sequence that decodes."""
        self.free_blocks -= self._due[self._rounds % self._size]
        self._rounds += 1
        decoding = self._decoding
        return Step(decoding, decoding, self._computed + decoding * self._rounds)

    def _admit(self, step: Step, tokens: int) -> None:
        """Start the first waiting sequence with so many tokens of its prompt."""
        sequence = self.waiting.popleft()
        self.running[sequence] = None
        self._read(step, sequence, tokens)

    def _read(self, step: Step, sequence: ScheduledSequence, tokens: int) -> None:
        """Book a chunk of a prompt, and the first token after the last chunk."""
        before, after = sequence.computed, sequence.computed + tokens
        self.free_blocks -= self._blocks(after) - self._blocks(before)
        step.rows += tokens
        step.sequences += 1
        step.kv_tokens += after
        step.prefill_tokens += tokens
        step.prefill_pairs += tokens * before + tokens * (tokens + 1) // 2
        step.prefills.append((sequence, tokens))
        if after < sequence.tokens:
            sequence.computed, self._partial = after, sequence
            return
        self._partial = None
        sequence.computed = after - self._rounds
        self._computed += sequence.computed
        self._due[-sequence.computed % self._size] += 1
        whole = min(sequence.prompt + sequence.answer, self._longest)
        sequence.end = self._rounds + max(0, whole - after - 1)
        if sequence.end < math.inf:
            heappush(self._ends, (sequence.end, next(self._numbers), sequence))

    def _go_on(self, step: Step, most: float, spare: int) -> None:
        """Add steps like this one until a sequence ends or blocks may run short."""
        ends, size = self._ends, self._size
        more = min(most - 1, ends[0][0] - self._rounds if ends else math.inf)
        free = self.free_blocks - spare
        sure = max(0, free // step.sequences) * size  # in ``size`` rounds, each takes one block
        if more > sure:
            free -= self._needed(sure)
            while sure < more and free >= self._due[(self._rounds + sure) % size]:
                free -= self._due[(self._rounds + sure) % size]
                sure += 1
            more = sure
        if more > 0:
            self.free_blocks -= self._needed(int(more))
            self._rounds += int(more)
            step.steps += int(more)

    def _needed(self, rounds: int) -> int:
        """Return how many blocks the sequences that decode take in so many rounds from now."""
        whole, rest = divmod(rounds, self._size)
        start = self._rounds % self._size
        due = sum(self._due[start : start + rest])
        if start + rest > self._size:
            due += sum(self._due[: start + rest - self._size])
        return whole * self._decoding + due

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._size)

    @property
    def _decoding(self) -> int:
        return len(self.running) - (self._partial is not None)


class BlockingScheduler(BatchScheduler):
    """0.4.1: a step reads whole prompts if one can be admitted, else it decodes."""

    def schedule(self, most: float = 1) -> Step:
        """Book the next step, or up to ``most`` steps if all of them only decode."""
        self.release()
        ignored: list[ScheduledSequence] = []
        step = Step(0, 0, 0, ignored=ignored)
        self._admit_all(step, ignored)
        if step.sequences or not self.running:
            return step
        preempted = []
        # Each sequence in turn wants a free block, whether it needs one or not.
        while self.running and self.free_blocks - self._due_but_last() < 1:
            preempted.append(self._preempt())
        step = self._decode()
        step.preempted, step.ignored = preempted, ignored
        if most > 1 and not preempted:
            self._go_on(step, most, 1)
        return step

    def _admit_all(self, step: Step, ignored: list[ScheduledSequence]) -> None:
        limits, waiting = self.limits, self.waiting
        spare = int(_WATERMARK * limits.num_blocks)
        longest = min(limits.max_model_len, limits.max_num_batched_tokens)
        while waiting:
            tokens = waiting[0].tokens
            blocks = self._blocks(tokens)
            if tokens > longest or limits.num_blocks - blocks < spare:
                ignored.append(waiting.popleft())
                continue
            if (
                self.free_blocks - blocks < spare
                or step.rows + tokens > limits.max_num_batched_tokens
                or len(self.running) >= limits.max_num_seqs
            ):
                return
            self._admit(step, tokens)

    def _due_but_last(self) -> int:
        """Return how many blocks the running sequences need before the last one's turn."""
        now = self._rounds % self._size
        last = next(reversed(self.running))
        return self._due[now] - (-last.computed % self._size == now)


class MixingScheduler(BatchScheduler):
    """V1: a step decodes and, with the rest of its tokens, reads prompts."""

    def __init__(self, limits: SchedulerLimits, *, whole_prompt: bool = True) -> None:
        super().__init__(limits)
        self.free_blocks -= 1
        self._longest = limits.max_model_len
        self._whole_prompt = whole_prompt

    def schedule(self, most: float = 1) -> Step:
        """Book the next step, or up to ``most`` steps if all of them only decode."""
        self.release()
        partial, chunk, blocks = self._partial, 0, 0
        budget = self.limits.max_num_batched_tokens - self._decoding
        if partial is not None:
            chunk = min(partial.tokens - partial.computed, budget)
            blocks = self._blocks(partial.computed + chunk) - self._blocks(partial.computed)
        preempted = []
        while self._due[self._rounds % self._size] + blocks > self.free_blocks:
            preempted.append(self._preempt())
            chunk = blocks = 0  # the prompt that was read is the last: it went first
        step = self._decode()
        step.preempted = preempted
        if chunk and partial is not None:
            self._read(step, partial, chunk)
        if not preempted:
            self._admit_all(step, budget - chunk)
            if most > 1 and self._partial is None and step.sequences and not step.prefills:
                self._go_on(step, most, 0)
        return step

    def _admit_all(self, step: Step, budget: int) -> None:
        limits, waiting = self.limits, self.waiting
        while waiting and budget > 0 and len(self.running) < limits.max_num_seqs:
            whole = waiting[0].tokens
            tokens = min(whole, budget)
            if tokens < whole and not limits.chunked_prefill:
                return
            if self._blocks(whole if self._whole_prompt else tokens) > self.free_blocks:
                return
            self._admit(step, tokens)
            budget -= tokens


def scheduler_of(version: Sequence[int], limits: SchedulerLimits) -> BatchScheduler:
    """Return the scheduler of a release of vLLM."""
    if tuple(version) < V1:
        return BlockingScheduler(limits)
    return MixingScheduler(limits, whole_prompt=tuple(version) >= _WHOLE_PROMPT)
