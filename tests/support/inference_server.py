"""A stand-in for gateway and vLLM, for tests: answers one host, says tokens one by one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from servers import Servers

HOST = "qwen.default.example.com"
PIECES = ("西湖", "位于", "杭州")
METRICS = """# HELP vllm:num_requests_running Number of requests currently running on GPU.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="qwen"} 2.0
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{le="1.0",model_name="qwen"} 3.0
vllm:e2e_request_latency_seconds_bucket{le="+Inf",model_name="qwen"} 4.0
vllm:e2e_request_latency_seconds_sum{model_name="qwen"} 5.5
vllm:e2e_request_latency_seconds_count{model_name="qwen"} 4.0
"""


class Vllm:
    """``status`` refuses everything and ``says`` why, ``cut`` ends streams early, ``hang`` hangs.

    ``slots`` is how many requests it works on at once; others wait. ``reasons``: it only thinks.
    ``key`` is its API key. ``odd`` is sent instead of an answer, and as the only event of a stream.
    """

    def __init__(self) -> None:
        self.status = 200
        self.says = "no upstream"
        self.cut = False
        self.hang = False
        self.key = ""
        self.usage = True
        self.error_in_stream = False
        self.odd = b""
        self.delay_s = 0.0
        self.slots = 1000
        self.reasons = False
        self._places: asyncio.Semaphore | None = None
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if request.headers["Host"] != HOST:
            return web.Response(status=404)
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        body = await request.json()
        self.bodies.append(body)
        if self.status != 200:
            return web.json_response({"message": self.says}, status=self.status)
        if self.hang:
            await asyncio.sleep(60)
        if body["model"] != "qwen":
            text = f"The model `{body['model']}` does not exist."
            return web.json_response({"object": "error", "message": text, "code": 404}, status=404)
        self._places = self._places or asyncio.Semaphore(self.slots)
        async with self._places:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                return await (self._stream(request) if body.get("stream") else self._whole())
            finally:
                self.at_once -= 1

    async def _whole(self) -> web.Response:
        if self.odd:
            return web.Response(body=self.odd, content_type="application/json")
        message = {"role": "assistant", **self._text("".join(PIECES))}
        choice = {"index": 0, "message": message, "finish_reason": "length", "stop_reason": None}
        return web.json_response(frame("chat.completion", choice) | {"usage": usage()})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if self.odd:
            await response.write(b"data: " + self.odd + b"\n\n")
            return response
        await self._event(response, {"delta": {"role": "assistant"}, "finish_reason": None})
        for number, piece in enumerate(PIECES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.cut and number == 1:
                return response
            if self.error_in_stream and number == 1:
                await response.write(b'data: {"object":"error","message":"CUDA error"}\n\n')
                return response
            last = number == len(PIECES) - 1
            finish = "length" if last else None
            choice = {"delta": self._text(piece), "finish_reason": finish}
            await self._event(response, choice, usage() if last and self.usage else None)
        await response.write(b"data: [DONE]\n\n")
        return response

    def _text(self, text: str) -> dict[str, str | None]:
        return {"content": None, "reasoning_content": text} if self.reasons else {"content": text}

    async def _event(
        self,
        response: web.StreamResponse,
        choice: dict[str, Any],
        counts: dict[str, int] | None = None,
    ) -> None:
        chunk = frame("chat.completion.chunk", {"index": 0, **choice})
        chunk |= {"usage": counts} if counts else {}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())


def frame(name: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "cmpl-1", "object": name, "created": 1, "model": "qwen", "choices": [choice]}


def usage() -> dict[str, int]:
    return {"prompt_tokens": 10, "total_tokens": 13, "completion_tokens": 3}


@contextmanager
def serving(vllm: Vllm, *, port: int = 0) -> Iterator[str]:
    """Serve from a thread; yields the URL."""
    servers = Servers()
    try:
        yield servers.serve(vllm.app(), port=port)
    finally:
        servers.close()
