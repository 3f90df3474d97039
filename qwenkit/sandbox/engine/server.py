"""vLLM 0.4.1's OpenAI server: its routes, on one pod's files and one pod's GPU."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress

from aiohttp import web

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.engine import asks, replies
from qwenkit.sandbox.engine.asks import Ask
from qwenkit.sandbox.engine.batch import Batch, Hardware
from qwenkit.sandbox.engine.checkpoint import Checkpoint
from qwenkit.sandbox.engine.flags import Flags
from qwenkit.sandbox.engine.metrics import Metrics
from qwenkit.sandbox.engine.replies import Answer, Reply

VERSION = "0.4.1"
_MAX_BODY = 64 * 2**20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Engine:
    """One vLLM server. ``app`` serves it; it runs while that application does."""

    def __init__(
        self,
        flags: Flags,
        checkpoint: Checkpoint,
        hardware: Hardware,
        *,
        max_model_len: int,
        time_scale: float,
    ) -> None:
        self._flags, self._checkpoint, self._limit = flags, checkpoint, max_model_len
        self._metrics = Metrics(flags.served_names[0])
        self._batch = Batch(
            hardware,
            self._metrics,
            time_scale=time_scale,
            max_num_seqs=flags.max_num_seqs,
            block_size=flags.block_size,
        )
        self.in_flight = 0
        self.last_request = 0.0
        """When a request last came or ended, on the monotonic clock; probes do not count."""

    def app(self) -> web.Application:
        """Return the server."""
        app = web.Application(client_max_size=_MAX_BODY, middlewares=[self._middleware])
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completion)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/version", _version)
        app.router.add_get("/health", _health)
        app.router.add_get("/metrics", self._exposition)
        app.cleanup_ctx.append(self._stepping)
        return app

    async def _stepping(self, _: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._batch.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/v1"):
            return await _answered(request, handler)
        if self._flags.api_key and request.headers.get("Authorization") != (
            f"Bearer {self._flags.api_key}"
        ):
            return web.json_response({"error": "Unauthorized"}, status=401)
        self.in_flight += 1
        self.last_request = time.monotonic()
        try:
            return await _answered(request, handler)
        finally:
            self.in_flight -= 1
            self.last_request = time.monotonic()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response(replies.models(self._flags.served_names))

    async def _exposition(self, _: web.Request) -> web.Response:
        kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.text().encode(), headers=kind)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, asks.chat, chat=True)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, asks.completion, chat=False)

    async def _serve(
        self, request: web.Request, read: Callable[..., Ask], *, chat: bool
    ) -> web.StreamResponse:
        body = asks.parse(await request.read())
        name = body.get("model")
        if isinstance(name, str) and name not in self._flags.served_names:
            message = f"The model `{name}` does not exist."
            return _error(message, "NotFoundError", 404)
        ask = read(body, limit=self._limit)
        answers = [
            replies.cut(self._checkpoint.answer(text), ask)
            for text, _ in ask.prompts
            for _ in range(ask.n)
        ]
        reply = Reply(ask.model, chat, self._flags.response_role)
        prompts = [count for _, count in ask.prompts for _ in range(ask.n)]
        if ask.stream:
            return await self._stream(request, reply, answers, prompts)
        await asyncio.gather(*map(self._wait, answers, prompts))
        echoes = [text * ask.echo for text, _ in ask.prompts for _ in range(ask.n)]
        total = sum(count for _, count in ask.prompts)
        return web.json_response(reply.whole(answers, total, echoes), dumps=_dumps)

    async def _wait(self, answer: Answer, prompt: int) -> None:
        async for _ in self._tokens(answer, prompt):
            pass

    async def _stream(
        self, request: web.Request, reply: Reply, answers: list[Answer], prompts: list[int]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        choices = enumerate(zip(answers, prompts, strict=True))
        await asyncio.gather(
            *(self._stream_one(response, reply, index, *one) for index, one in choices)
        )
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _stream_one(
        self, response: web.StreamResponse, reply: Reply, index: int, answer: Answer, prompt: int
    ) -> None:
        final = len(answer.pieces) - 1
        async with aclosing(self._tokens(answer, prompt)) as produced:
            async for number in produced:
                if number == 0 and reply.chat:
                    await _event(response, reply.first(index))
                piece = answer.pieces[number]
                if number == final:
                    await _event(response, reply.last(index, answer, piece, prompt))
                else:
                    await _event(response, reply.piece(index, piece))

    async def _tokens(self, answer: Answer, prompt: int) -> AsyncGenerator[int, None]:
        """Yield the numbers of an answer's tokens in time, and count how it ended."""
        started, reason = time.monotonic(), "abort"
        try:
            async with aclosing(self._batch.generate(prompt, len(answer.pieces))) as produced:
                async for number in produced:
                    yield number
            reason = answer.finish_reason
        finally:
            self._metrics.finished[reason] += 1
            self._metrics.request.observe(time.monotonic() - started)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidValue as error:
        return _error(error.rule, "BadRequestError", 400)
    except web.HTTPException as error:
        return web.json_response({"detail": error.reason}, status=error.status)
    except ConnectionResetError:
        # The client left while its answer was being written; nobody reads this one.
        return web.Response(status=499)


async def _event(response: web.StreamResponse, chunk: replies.Json) -> None:
    await response.write(f"data: {_dumps(chunk)}\n\n".encode())


def _error(message: str, kind: str, code: int) -> web.Response:
    return web.json_response(replies.error(message, kind, code), status=code, dumps=_dumps)


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def _health(_: web.Request) -> web.Response:
    return web.Response()


async def _version(_: web.Request) -> web.Response:
    return web.json_response({"version": VERSION})
