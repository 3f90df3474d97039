"""A new revision gets the requests step by step, as long as what is measured of it is good."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Self

from qwenkit.capacity.simulation.traffic import ClosedLoop
from qwenkit.cluster.api.connect import SANDBOX
from qwenkit.cluster.change.proposal import ProposedChange
from qwenkit.cluster.change.traffic import CANDIDATE, FOLLOW_LATEST, STABLE, TrafficSwitch, split
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.wait import OnChange
from qwenkit.errors import Conflict, QwenkitError
from qwenkit.inference.load.running import start_load
from qwenkit.inference.results import LoadRequest, LoadResult
from qwenkit.loadtest.gate import QUESTIONS, CanaryStep, Gate, wrong_answer
from qwenkit.settings import Settings
from qwenkit.steps import find_server, load_request

_USERS, _TAG_TOKENS = 6, 8  # requests of users at each step; tokens of an answer to the tag
_POLL_S = 0.02


@dataclass(frozen=True)
class Canary:
    """A ``candidate`` revision beside the ``stable`` one, which has all requests at first.

    ``seconds`` is how long it took to be ready.

    >>> from qwenkit import Canary, Settings
    >>> Canary.roll_back(Settings())  # "": it follows its latest revision already
    ''
    """

    stable: str
    candidate: str
    seconds: float
    settings: Settings = field(repr=False)

    @classmethod
    def start(
        cls,
        settings: Settings,
        change: ProposedChange,
        *,
        mode: str | None = None,
        on_change: OnChange | None = None,
    ) -> Self:
        """Make a change as a revision that gets no requests but those to its tag.

        ``mode`` "surge" waits for a GPU. After an error or an interrupt the Service is rolled
        back, here and in ``advance``.

        Raises:
            Conflict: the change changes nothing, or the traffic is pinned already.
            NotReady: no GPU is free beside the revision that serves, or the candidate fails.
            WaitTimeout: it is not ready in time.
        """
        traffic, stable = _traffic(settings, on_change), change.revision
        if not change.diff or (pinned := traffic.stable()):
            why = f"the traffic is pinned to {pinned}" if change.diff else "the change is empty"
            raise Conflict("no candidate was made", why, "Canary.roll_back(settings) unpins it")
        change.mode(mode)  # raises where no GPU is free
        with _whole(traffic):
            traffic.set(split(stable, 0))
            done = change.apply(mode, timeout_s=traffic.timeout_s, on_change=on_change)
        return cls(stable, done.new_revision, done.seconds, settings)

    def advance(
        self,
        gate: Gate,
        *,
        shares: Sequence[int] = (10, 50, 100),
        on_change: OnChange | None = None,
    ) -> tuple[CanaryStep, ...]:
        """Give the candidate more of the requests while the gate lets it; return the steps.

        One that is held is rolled back. In the end the Service follows its latest revision.
        """
        steps, traffic = list[CanaryStep](), _traffic(self.settings, on_change)
        with _whole(traffic):
            wrong = self._wrong()
            for share in shares:
                traffic.set(split(self.stable, share))
                steps.append(gate.judge(self._measured(share, gate, wrong)))
                if steps[-1].why:
                    traffic.roll_back()
                    return tuple(steps)
            traffic.set(FOLLOW_LATEST)
        return tuple(steps)

    @staticmethod
    def roll_back(settings: Settings) -> str:
        """Give all requests back to the stable revision, at once; return it, "" without one.

        The Service follows its latest revision again: the stable one, until a new one with its
        template is ready. The candidate is deleted.
        """
        return _traffic(settings).roll_back()

    def _measured(self, share: int, gate: Gate, wrong: tuple[str, ...]) -> CanaryStep:
        """Send some requests as users do, and the others to the candidate's tag.

        One request at a time: more would start more replicas. Those of users count where the
        gateway tells that the candidate answered.
        """
        users = self._asked("", _USERS, gate)
        own = [r for r in _ended(users) if r.revision == self.candidate]
        seen = self._asked(CANDIDATE, gate.requests - len(own), gate)
        own += _ended(seen)
        found = replace(seen, requests=tuple(own)).summary(ttft_slo_s=gate.ttft_p95_s / seen.clock)
        p95_s, causes = found["ttft_s"].get("p95"), {**users.causes, **seen.causes}
        return CanaryStep(
            self.candidate,
            share,
            len(own),
            goodput=round(100 * found["goodput"]["share"], 1),
            ttft_p95_s=p95_s and round(p95_s * seen.clock, 3),
            failed=found["failed"],
            cause="; ".join(f"{kind}, {why}" for kind, why in causes.items()),
            wrong=wrong,
        )

    def _asked(self, tag: str, count: int, gate: Gate) -> LoadResult:
        """Send requests one after another, until there are so many or too many have failed."""
        once = load_request(self.settings) | ({"max_tokens": _TAG_TOKENS} if tag else {})
        loop = ClosedLoop(((0.0, 1), (self.settings.seconds("scale"), 0)))
        load = start_load(find_server(self.settings, tag=tag), loop, **once)
        try:
            while not load.done:
                now = load.snapshot()
                if now.ok + now.failed >= count or gate.is_failed(now.failed, now.failed):
                    break
                time.sleep(_POLL_S)
        finally:
            load.stop()
        return load.result()

    def _wrong(self) -> tuple[str, ...]:
        """Return the candidate's wrong answers. On the sandbox they must be the stable one's."""
        exact = self.settings.context == SANDBOX
        expected = self._answers(STABLE) if exact else [""] * len(QUESTIONS)
        found = map(wrong_answer, QUESTIONS, self._answers(CANDIDATE), expected)
        return tuple(filter(None, found))

    def _answers(self, tag: str) -> list[str]:
        texts = []
        with closing(find_server(self.settings, tag=tag)) as server:
            for question in QUESTIONS:
                try:
                    answer = server.ask(question, max_tokens=24, temperature=0)
                    texts.append(answer.text or answer.reasoning)
                except QwenkitError as error:
                    texts.append(str(error))
        return texts


def _ended(load: LoadResult) -> list[LoadRequest]:
    return [request for request in load.requests if request.outcome != "cancelled"]


def _traffic(settings: Settings, on_change: OnChange | None = None) -> TrafficSwitch:
    cluster, limit_s = Cluster.connect(settings), settings.seconds("ready")
    return TrafficSwitch(cluster, settings.service, limit_s, on_change)


@contextmanager
def _whole(traffic: TrafficSwitch) -> Iterator[None]:
    """Roll the Service back after an error or an interrupt, and say so."""
    try:
        yield
    except BaseException as stop:
        stop.add_note(f"rolled back: {traffic.roll_back()} serves; ksvc follows its latest again")
        raise
