"""Servers of a test: aiohttp applications in an event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from qwenkit.sandbox.http import Listening, listen


class Servers:
    """An event loop in a thread, and the applications that listen on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._listening: list[Listening] = []

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def serve(self, app: web.Application, *, port: int = 0) -> str:
        listening = self.call(listen(app, port=port))
        self._listening.append(listening)
        return str(listening.url)

    def close(self) -> None:
        for listening in self._listening:
            self.call(listening.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
