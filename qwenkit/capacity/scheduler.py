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
from dataclasses import dataclass
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
    prefills: Sequence[tuple[ScheduledSequence, int]] = ()
    preempted: Sequence[ScheduledSequence] = ()
    ignored: Sequence[ScheduledSequence] = ()
    """Those that no empty cache would hold: 0.4.1 ends them without an answer."""


class BatchScheduler:
    """The sequences of one server. Call ``schedule`` once a step.

    What a step makes of the sequences is booked when it is scheduled; the blocks of those that
    have their last token are freed when the next one is.
    """

    _at_turn = 0  # blocks that must be free when it is a sequence's turn to decode

    def __init__(self, limits: SchedulerLimits) -> None:
        self.limits = limits
        self.running: dict[ScheduledSequence, None] = {}
        self.waiting: deque[ScheduledSequence] = deque()
        self._size = limits.block_size
        self._longest = math.inf
        self._partial: ScheduledSequence | None = None  # whose prompt is read; the last running
        self._rounds = self._decoding = 0
        self._blocks = limits.num_blocks
        # KV tokens of all that decode and KV blocks of all that run, less what the rounds added.
        self._computed = self._held = 0
        # How many of them need a block in the rounds with this remainder by the block size.
        self._due = [0] * self._size
        self._ends: list[tuple[float, int, ScheduledSequence]] = []
        self._numbers = count()

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

    @property
    def free_blocks(self) -> int:
        """KV blocks that no sequence holds."""
        whole, rest = divmod(self._rounds, self._size)
        added = whole * self._decoding + sum(self._due[:rest])
        return self._blocks - self._held - added

    def decode_on(self) -> Step | None:
        """Book the steps to the next end, if they are sure to decode and nothing else."""
        if self.waiting or self._partial or not self._ends:
            return None
        steps = int(self._ends[0][0]) - self._rounds
        if steps < 1 or self._surely_free(steps) < 1:
            return None
        step = self._decode()
        self._rounds += steps - 1
        step.steps = steps
        return step

    def scheduled(self, step: Step) -> list[tuple[ScheduledSequence, int]]:
        """Return each sequence of the step that was just scheduled, with its tokens."""
        decode = islice(self.running, step.sequences - len(step.prefills))
        return [*((each, 1) for each in decode), *step.prefills]

    def cut(self, step: Step, steps: int) -> None:
        """Take back all but the first of the steps that were just scheduled at once."""
        self._rounds -= step.steps - steps
        step.steps = steps

    def _leave(self, sequence: ScheduledSequence) -> None:
        """Take a sequence out of the running ones and free its blocks."""
        del self.running[sequence]
        self._held += -sequence.computed // self._size
        if sequence is self._partial:
            self._partial = None
            return
        self._decoding -= 1
        self._due[-sequence.computed % self._size] -= 1
        self._computed -= sequence.computed
        sequence.computed += self._rounds
        sequence.tokens = sequence.computed + 1
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
        self._rounds += 1
        decoding = self._decoding
        return Step(decoding, decoding, self._computed + decoding * self._rounds)

    def _read(self, step: Step, sequence: ScheduledSequence, tokens: int) -> None:
        """Book a chunk of a prompt, and the first token after the last chunk."""
        before, size, rounds = sequence.computed, self._size, self._rounds
        after = before + tokens
        step.rows += tokens
        step.sequences += 1
        step.kv_tokens += after
        step.prefill_tokens += tokens
        step.prefill_pairs += tokens * before + tokens * (tokens + 1) // 2
        step.prefills = (*step.prefills, (sequence, tokens))
        self.running[sequence] = None
        if after < sequence.tokens:
            sequence.computed, self._partial = after, sequence
        else:
            self._partial = None
            self._decoding += 1
            sequence.computed = base = after - rounds
            self._computed += base
            self._due[-base % size] += 1
            left = min(sequence.prompt + sequence.answer, self._longest) - after - 1
            sequence.end = end = rounds + left if left > 0 else rounds
            if end < math.inf:
                heappush(self._ends, (end, next(self._numbers), sequence))
        self._held += -before // size - -sequence.computed // size

    def _go_on(self, step: Step, most: float) -> None:
        """Add steps like this one until a sequence ends or blocks may run short."""
        more = most - 1
        if self._ends and self._ends[0][0] - self._rounds < more:
            more = self._ends[0][0] - self._rounds
        if more == math.inf or self._surely_free(more) < self._at_turn:
            size, free = self._size, self.free_blocks - self._at_turn
            sure = max(0, free // step.sequences * size)  # in ``size`` rounds each takes one block
            now, wanted, more = self._rounds % size, more, min(more, sure)
            free -= int(more) // size * step.sequences
            for due in (*self._due[now:], *self._due[:now]):
                if due > free or more >= wanted:
                    break
                free -= due
                more += 1
        self._rounds += int(more)
        step.steps += int(more)

    def _surely_free(self, rounds: float) -> float:
        """Return how many blocks are free after so many rounds, or fewer."""
        each = (self._rounds + rounds) // self._size + 1
        return self._blocks - self._held - each * self._decoding


class BlockingScheduler(BatchScheduler):
    """0.4.1: a step reads whole prompts if one can be admitted, else it decodes."""

    _at_turn = 1  # even if it needs none

    def __init__(self, limits: SchedulerLimits) -> None:
        super().__init__(limits)
        self._spare = int(_WATERMARK * limits.num_blocks)
        fitting = (limits.num_blocks - self._spare) * limits.block_size
        self._most = min(limits.max_model_len, limits.max_num_batched_tokens, fitting)

    def schedule(self, most: float = 1) -> Step:
        """Book the next step, or up to ``most`` steps if all of them only decode."""
        if self._ends and self._ends[0][0] <= self._rounds:
            self.release()
        ignored: list[ScheduledSequence] = []
        if self.waiting:
            step = self._read_prompts(ignored)
            if step.rows:
                return step
        preempted = []
        while self.running and self._short():
            preempted.append(self._preempt())
        step = self._decode()
        step.preempted, step.ignored = preempted, ignored
        if most > 1 and step.rows and not preempted:
            self._go_on(step, most)
        return step

    def _read_prompts(self, ignored: list[ScheduledSequence]) -> Step:
        limits, waiting, free = self.limits, self.waiting, self.free_blocks - self._spare
        room, step = limits.max_num_batched_tokens, Step(0, 0, 0, ignored=ignored)
        while waiting:
            tokens = waiting[0].tokens
            if tokens > self._most:
                ignored.append(waiting.popleft())
                continue
            blocks = -(-tokens // self._size)
            if blocks > free or tokens > room or len(self.running) >= limits.max_num_seqs:
                break
            self._read(step, waiting.popleft(), tokens)
            room -= tokens
            free -= blocks
        return step

    def _short(self) -> bool:
        """Whether no block is left when it is the last sequence's turn."""
        if self._surely_free(1) > 0:
            return False
        now, last = self._rounds % self._size, next(reversed(self.running))
        return self.free_blocks <= self._due[now] - (-last.computed % self._size == now)


class MixingScheduler(BatchScheduler):
    """V1: a step decodes and, with the rest of its tokens, reads prompts."""

    def __init__(self, limits: SchedulerLimits, *, whole_prompt: bool = True) -> None:
        super().__init__(limits)
        self._blocks -= 1
        self._longest = limits.max_model_len
        self._whole_prompt = whole_prompt

    def schedule(self, most: float = 1) -> Step:
        """Book the next step, or up to ``most`` steps if all of them only decode."""
        self.release()
        partial, size, chunk, blocks = self._partial, self._size, 0, 0
        if partial is not None:
            room = self.limits.max_num_batched_tokens - len(self.running) + 1
            chunk = min(partial.tokens - partial.computed, room)
            blocks = -partial.computed // size - -(partial.computed + chunk) // size
        preempted = []
        while self._surely_free(1) < blocks and self._short(blocks):
            preempted.append(self._preempt())
            chunk = blocks = 0  # the prompt that was read is the last: it went first
        step = self._decode()
        step.preempted = preempted
        if partial is not None and chunk:
            self._read(step, partial, chunk)
        if self.waiting and not preempted:
            self._read_prompts(step)
        if most > 1 and step.rows and not (step.prefills or preempted or self._partial):
            self._go_on(step, most)
        return step

    def _short(self, blocks: int) -> bool:
        return self._due[self._rounds % self._size] + blocks > self.free_blocks

    def _read_prompts(self, step: Step) -> None:
        limits, waiting = self.limits, self.waiting
        room, free = limits.max_num_batched_tokens - step.rows, self.free_blocks
        while waiting and room > 0 and len(self.running) < limits.max_num_seqs:
            whole = waiting[0].tokens
            tokens = whole if whole < room else room
            if tokens < whole and not limits.chunked_prefill:
                return
            if -(-(whole if self._whole_prompt else tokens) // self._size) > free:
                return
            self._read(step, waiting.popleft(), tokens)
            room -= tokens
            free -= -(-tokens // self._size)


def scheduler_of(version: Sequence[int], limits: SchedulerLimits) -> BatchScheduler:
    """Return the scheduler of a release of vLLM."""
    if tuple(version) < V1:
        return BlockingScheduler(limits)
    return MixingScheduler(limits, whole_prompt=tuple(version) >= _WHOLE_PROMPT)
