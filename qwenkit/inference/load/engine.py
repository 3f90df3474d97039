"""Sends a traffic's requests and measures each, in an event loop of its own.

A notebook's event loop is already running, so this one runs in a thread.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random
from threading import Lock

from qwenkit.capacity.simulation.traffic import ClosedLoop, OpenLoop, Traffic
from qwenkit.errors.scrubbing import scrub
from qwenkit.inference import failures
from qwenkit.inference.client import Server
from qwenkit.inference.clock import told_clock
from qwenkit.inference.events import BadEvent, ChatReader
from qwenkit.inference.load.bodies import Bodies, asks_for_counts, without_counts
from qwenkit.inference.load.transport import Closed, Connection
from qwenkit.inference.results import LoadProgress, LoadRequest, Outcome

# A client waits after a failure, so that a refused connection does not become a busy loop.
_PAUSE_S = 0.5
_RECENT_S = 10.0
# So many failures for so long, and no answer at all: the load ends.
_HOPELESS, _HOPELESS_S = 10, 3.0
# 8 bytes each. Of later requests only the first and last token are known.
_MOST_TOKEN_TIMES = 3_000_000
# A server that closes an idle connection does it at once, not after it has read a request.
_RACE_S = 1.0
_LONGEST = 2**16  # of what a refusal says, in bytes


class Engine:
    """One load while it runs: ``main`` runs in its thread, other threads may use the rest.

    Memory: about 700 bytes a request, and 8 for each of the first three million pieces of text.
    """

    def __init__(
        self,
        server: Server,
        connect: Callable[[], Connection],
        traffic: Traffic,
        bodies: Bodies,
        *,
        seconds: float,
        warm_up: int,
    ) -> None:
        self.requests: list[LoadRequest] = []
        self.causes: dict[str, str] = {}
        self.ended_early = ""
        self.clock = 1.0
        # Of its requests' ids, which no other load's may have: vLLM refuses a second one.
        self.name = secrets.token_hex(4)
        self.began, self._end = time.monotonic(), 0.0
        self._server, self._connect, self._bodies = server, connect, bodies
        self._traffic, self._seconds, self._warm_up = traffic, seconds, warm_up
        self._counts: bool | None = None  # whether the server takes ``stream_options``
        self._sent = self.tokens = self._token_times = 0
        self._outcomes: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._idle: list[Connection] = []
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._lock = Lock()

    def elapsed(self) -> float:
        """Return the seconds since the start, or of the whole load once it has ended."""
        return (self._end or time.monotonic()) - self.began

    def stop(self) -> None:
        """End the load; running requests are cancelled."""
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._end_early, "it was stopped")

    def _end_early(self, why: str) -> None:
        self.ended_early = self.ended_early or f"ended early: {why}"
        self._stopped.set()

    def progress(self) -> LoadProgress:
        """Return the state of this moment."""
        now = self.elapsed()
        with self._lock:
            first = bisect_left(self.requests, now - _RECENT_S, key=lambda one: one.end_s)
            done = self._outcomes
            return LoadProgress(
                seconds=now,
                sent=self._sent,
                running=self._sent - done.total(),
                ok=done["ok"],
                failed=done["failed"],
                cancelled=done["cancelled"],
                tokens=self.tokens,
                errors=dict(self._errors),
                recent=tuple(self.requests[first:]),
                clock=self.clock,
            )

    def main(self) -> None:
        """Run the load to its end."""
        try:
            self._loop.run_until_complete(self._all())
        finally:
            self._end = time.monotonic()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _all(self) -> None:
        work = asyncio.create_task(self._drive(self._traffic))
        stopping = asyncio.create_task(self._stopped.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        stopping.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await work
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            for connection in self._idle:
                await connection.close()

    async def _drive(self, traffic: Traffic) -> None:
        if self._warm_up:
            rng, lengths = Random(0), traffic.lengths
            bodies = [self._bodies.make(lengths.draw(0.0, rng)) for _ in range(self._warm_up)]
            await asyncio.gather(*(self._warm(-n, body) for n, body in enumerate(bodies, 1)))
        self.began, self.tokens = time.monotonic(), 0
        await (self._open(traffic) if isinstance(traffic, OpenLoop) else self._closed(traffic))

    async def _warm(self, number: int, body: bytes) -> None:
        with suppress(Exception):  # the load's own requests will tell
            async with asyncio.timeout(self._server.timeout_s):
                await self._send(_Meter(number, 0.0, 0.0, self), body)

    async def _open(self, traffic: OpenLoop) -> None:
        async with asyncio.TaskGroup() as group:
            for arrival in traffic.arrivals:
                if arrival.at >= self._seconds:
                    return
                body = self._bodies.make(arrival)
                await self._until(arrival.at)
                group.create_task(self._one(arrival.at, body))

    async def _closed(self, traffic: ClosedLoop) -> None:
        most = max(clients for _, clients in traffic.schedule)
        async with asyncio.TaskGroup() as group:
            for number in range(most):
                group.create_task(self._client(number, traffic))

    async def _client(self, number: int, traffic: ClosedLoop) -> None:
        while (at := traffic.turn(number, self.elapsed())) < self._seconds:
            await self._until(at)
            body = self._bodies.make(self._bodies.draw(at, traffic.lengths))
            done = await self._one(at, body)
            if done.outcome == "failed":
                await asyncio.sleep(min(_PAUSE_S, self._seconds - self.elapsed()))

    async def _until(self, at: float) -> None:
        if (left := at - self.elapsed()) > 0:
            await asyncio.sleep(left)

    async def _one(self, scheduled_s: float, body: bytes) -> LoadRequest:
        meter = _Meter(self._sent, scheduled_s, self.elapsed(), self)
        self._sent += 1
        outcome: Outcome = "failed"
        why = ""
        try:
            async with asyncio.timeout(self._server.timeout_s):
                await self._send(meter, body)
            outcome = "ok"
        except asyncio.CancelledError:
            outcome, why = "cancelled", "stopped"
            raise
        except Exception as error:
            why = self._explained(error, meter)
        finally:
            whole = self._token_times < _MOST_TOKEN_TIMES
            done = meter.done(self.elapsed(), outcome, why, whole=whole)
            self._record(done, meter)
        return done

    async def _send(self, meter: _Meter, body: bytes) -> None:
        if self._counts is False:
            body = without_counts(body)
        await self._exchange(meter, body)
        if meter.status in (400, 422) and self._counts is None and asks_for_counts(body):
            # Perhaps it does not know ``stream_options``.
            await self._exchange(meter, without_counts(body))
            self._counts = False if meter.status == 200 else None
        elif meter.status == 200 and self._counts is None:
            self._counts = asks_for_counts(body)
        if meter.status != 200:
            raise self._refused(meter)
        meter.reader.require_whole()

    async def _exchange(self, meter: _Meter, body: bytes) -> None:
        began = self.elapsed()
        while self._idle:
            connection = self._idle.pop()
            if not connection.reusable:
                await connection.close()
                continue
            try:
                return await self._carry(connection, meter, body)
            except Closed:
                if self.elapsed() - began > _RACE_S:
                    raise
                break
        await self._carry(self._connect(), meter, body)

    async def _carry(self, connection: Connection, meter: _Meter, body: bytes) -> None:
        try:
            await connection.post(body, meter.name, meter)
        except BaseException:
            await connection.close()
            raise
        if connection.reusable:
            self._idle.append(connection)
        else:
            await connection.close()

    def _refused(self, meter: _Meter) -> BadEvent:
        error = failures.from_status(
            meter.status,
            meter.said.decode(errors="replace"),
            url=self._server.gateway,
            host=self._server.host,
            model=self._server.model,
            location=meter.location,
        )
        return BadEvent(f"http {meter.status}", f"{error.why.rstrip('.')}; {error.fix}")

    def _explained(self, error: Exception, meter: _Meter) -> str:
        """Return the kind of a failure, and keep the first example of each kind."""
        kind = error.kind if isinstance(error, BadEvent) else failures.kind(error)
        example = str(error) or type(error).__name__
        tokens = meter.reader.tokens if meter.status else None
        if kind == "cut":
            example = failures.cut(self._server.gateway, tokens).what
        elif kind == "timeout":
            example = failures.timed_out(self._server.gateway, self._server.timeout_s, tokens).what
        self.causes.setdefault(kind, scrub(example))
        return kind

    def _record(self, done: LoadRequest, meter: _Meter) -> None:
        with self._lock:
            self.requests.append(done)
            self._token_times += len(done.token_s)
            self._outcomes[done.outcome] += 1
            self.tokens += done.tokens - meter.reader.pieces
            if done.outcome == "failed":
                self._errors[done.why] += 1
        failed = self._outcomes["failed"]
        hopeless = failed >= _HOPELESS and not self._outcomes["ok"]
        if hopeless and done.end_s - self.requests[0].end_s >= _HOPELESS_S:
            self._end_early(f"the first {failed} answers were all failures")


class _Meter:
    """Measures one request from its answer."""

    def __init__(self, number: int, scheduled_s: float, sent_s: float, engine: Engine) -> None:
        self._number, self._scheduled_s, self._sent_s = number, scheduled_s, sent_s
        self._engine = engine
        self._first_byte_s: float | None = None
        self._token_s = array("d")
        self._pod = self._revision = self.location = ""
        self.name = f"qwenkit-{engine.name}-{number}"
        self.status, self.said = 0, b""
        self.reader = ChatReader()

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the start of the answer."""
        self._first_byte_s, self.status, self.said = self._engine.elapsed(), status, b""
        self._pod = headers.get("x-qwenkit-pod", "")
        self._revision = headers.get("x-qwenkit-revision", "")
        self.location = headers.get("location", "")
        self._engine.clock = told_clock(headers, self._engine.clock)

    def data(self, data: bytes) -> None:
        """Take bytes of the stream, or of what is said instead of one."""
        if self.status != 200:
            self.said = (self.said + data)[:_LONGEST]
            return
        now_s = self._engine.elapsed()
        if self.reader.recognises(data):
            self._token_s.append(now_s)
            self._engine.tokens += 1
            return
        for _ in self.reader.feed(data):
            self._token_s.append(now_s)
            self._engine.tokens += 1

    def done(self, end_s: float, outcome: Outcome, why: str, *, whole: bool) -> LoadRequest:
        """Return the request, with the times of all tokens if ``whole``."""
        times, reader = self._token_s, self.reader
        return LoadRequest(
            number=self._number,
            scheduled_s=self._scheduled_s,
            sent_s=self._sent_s,
            first_byte_s=self._first_byte_s,
            first_s=times[0] if times else None,
            last_s=times[-1] if times else end_s,
            end_s=end_s,
            token_s=times if whole else (),
            status=self.status,
            outcome=outcome,
            why=why,
            prompt_tokens=reader.prompt_tokens,
            tokens=reader.tokens,
            reasoning_tokens=reader.reasoning_tokens,
            pod=self._pod,
            revision=self._revision,
        )
