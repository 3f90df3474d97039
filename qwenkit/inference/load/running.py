"""Start a load in the background, look at it, stop it, and get its result."""

from __future__ import annotations

import math
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any

from qwenkit.capacity.simulation.traffic import OpenLoop, Traffic
from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.inference.client import Server
from qwenkit.inference.load.bodies import Bodies
from qwenkit.inference.load.engine import Engine
from qwenkit.inference.load.transport import connector
from qwenkit.inference.results import LoadProgress, LoadResult, max_clients


class RunningLoad:
    """A load that runs in its own thread; all methods may be called from any."""

    def __init__(self, engine: Engine, traffic: Traffic) -> None:
        self._engine, self._traffic = engine, traffic
        self._ended: Future[None] = Future()
        Thread(target=self._run, name="qwenkit-load", daemon=True).start()

    def _run(self) -> None:
        try:
            self._engine.main()
        except BaseException as error:
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    @property
    def began(self) -> float:
        """The load's start, after its warm-up, on this machine's ``time.monotonic()``."""
        return self._engine.began

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._ended.done()

    def snapshot(self) -> LoadProgress:
        """Return counts so far and the last requests; cheap."""
        return self._engine.progress()

    def stop(self) -> None:
        """End the load early; running requests are counted as cancelled. Does not wait."""
        self._engine.stop()

    def result(self) -> LoadResult:
        """Wait for the end and return what was measured; an interrupt ends the load early.

        Raises:
            QwenkitError: the load broke off, or it sent nothing although nobody stopped it.
        """
        try:
            # With a short timeout, because an interrupt does not end a wait on every system.
            while wait([self._ended], timeout=0.25).not_done:
                pass
        except KeyboardInterrupt:
            self.stop()
        engine = self._engine
        if (error := self._ended.exception()) is not None:
            why = f"{type(error).__name__}: {error}"
            raise QwenkitError("the load broke off", why, "send a smaller load") from error
        if not (engine.requests or engine.ended_early):
            why, fix = "none was due before its end", "raise the seconds, the rate or the clients"
            raise QwenkitError("the load sent no request", why, fix)
        return LoadResult(
            requests=tuple(sorted(engine.requests, key=lambda request: request.number)),
            seconds=engine.elapsed(),
            began=engine.began,
            clock=engine.clock,
            traffic=self._traffic,
            causes=dict(engine.causes),
            ended_early=engine.ended_early,
        )


def start_load(
    server: Server,
    traffic: Traffic,
    *,
    prompt: str | None = None,
    max_tokens: int | None = None,
    seconds: float | None = None,
    warm_up: int = 0,
    seed: int = 0,
    **sampling: Any,
) -> RunningLoad:
    """Start to send a traffic's requests, and return at once.

    An open loop's requests go out when they are due, whatever became of others. Each client of a
    closed loop waits for its last answer. No request is sent after ``seconds`` (default: the end
    of the traffic); those that run then are waited for. A request that takes longer than the
    server's ``timeout_s`` has failed. When the first answers are all failures the load ends.

    Args:
        server: where to.
        traffic: when, and how long prompts and answers are.
        prompt: what each request asks; default random words of the traffic's prompt lengths.
        max_tokens: of each request; default the traffic's output lengths.
        seconds: how long.
        warm_up: requests that are sent, all at once, and answered before the load begins.
        seed: of prompts and lengths.
        sampling: vLLM's parameters, such as ``temperature`` and ``ignore_eos``.

    Raises:
        InvalidValue: no clients or no time, or less than no warm-up.
        QwenkitError: no connection can even be tried: a proxy or certificates are wrong.
    """
    if seconds is None:
        # The last request of an open loop is due at its very end.
        limit = math.inf if isinstance(traffic, OpenLoop) else traffic.end_s
    else:
        limit = seconds
    if not limit > 0 or seconds == math.inf:  # also of what is no number
        raise InvalidValue("seconds", limit, "must be more than 0 and finite")
    if max_clients(traffic) == 0:
        raise InvalidValue("clients", 0, "must be at least 1")
    if warm_up < 0:
        raise InvalidValue("warm_up", warm_up, "at least 0 requests")
    bodies = Bodies(server, prompt=prompt, max_tokens=max_tokens, seed=seed, sampling=sampling)
    connect = connector(server)
    engine = Engine(server, connect, traffic, bodies, seconds=limit, warm_up=warm_up)
    return RunningLoad(engine, traffic)
