"""vLLM 0.4.1's OpenAI server: its routes, on one pod's files and one pod's GPU."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress

from aiohttp import web

from qwenkit.errors import InvalidValue, NotFound, SandboxError
from qwenkit.sandbox.engine import asks, bodies, replies
from qwenkit.sandbox.engine.answers import Answers, joined
from qwenkit.sandbox.engine.asks import Ask, Prompt, Served
from qwenkit.sandbox.engine.batch import Batch, Hardware, Limits
from qwenkit.sandbox.engine.checkpoint import Checkpoint
from qwenkit.sandbox.engine.flags import Flags
from qwenkit.sandbox.engine.metrics import Metrics
from qwenkit.sandbox.engine.replies import Part, Reply

VERSION = "0.4.1"
_MAX_BODY = 64 * 2**20
# Reading a body of this size takes too long for the event loop.
_LARGE = 2**18
# For those who are still sending their request when the engine dies.
_LAST_WORDS_S = 1.0
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
        self._flags = flags
        self._metrics = Metrics(flags.served_names[0], max_model_len)
        self._served = Served(
            checkpoint.text,
            checkpoint.model.vocab_size,
            max_model_len,
            flags.max_logprobs,
            flags.response_role,
        )
        limits = Limits(flags.max_num_seqs, flags.batched_tokens(max_model_len), flags.block_size)
        self._batch = Batch(
            checkpoint.model, hardware, self._metrics, limits, time_scale=time_scale
        )
        self._answers = Answers(checkpoint, self._batch, self._metrics)
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.last_request = 0.0
        """When a request last came or ended, on the loop's clock; probes do not count."""

    async def failure(self) -> Exception:
        """Wait until the engine dies and those who asked have heard of it; return why."""
        error = await self._batch.failure()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._idle.wait()
        return error

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
        self._idle.clear()
        self.last_request = asyncio.get_running_loop().time()
        try:
            return await _answered(request, handler)
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()
            self.last_request = asyncio.get_running_loop().time()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response(replies.models(self._flags.served_names))

    async def _exposition(self, _: web.Request) -> web.Response:
        kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.text().encode(), headers=kind)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, self._read_chat)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, self._read_completion)

    def _read_chat(self, raw: bytes) -> Ask:
        body = bodies.parse(raw, bodies.ChatBody)
        self._check_model(body.model)
        return asks.chat(body, self._served)

    def _read_completion(self, raw: bytes) -> Ask:
        body = bodies.parse(raw, bodies.CompletionBody)
        self._check_model(body.model)
        return asks.completion(body, self._served)

    def _check_model(self, name: str) -> None:
        if name not in self._flags.served_names:
            raise NotFound(f"The model `{name}` does not exist.")

    async def _serve(
        self, request: web.Request, read: Callable[[bytes], Ask]
    ) -> web.StreamResponse:
        raw = await request.read()
        ask = await asyncio.to_thread(read, raw) if len(raw) > _LARGE else read(raw)
        self._metrics.asked(ask.n, ask.sequences)
        reply = Reply(ask, self._flags.served_names[0], self._served.text)
        if ask.stream and ask.sequences == ask.n:
            return await self._stream(request, reply, ask)
        best = await asyncio.gather(*(self._answers.best(ask, one) for one in ask.prompts))
        answers = [parts for group in best for parts in group]
        whole = reply.whole([joined(parts) for parts in answers], made=sum(map(len, answers)))
        if not ask.stream:
            return web.json_response(whole, dumps=_dumps)
        # The best of several is known at the end only: vLLM streams it as one event.
        response = await _events(request)
        await response.write(_event(whole) + _DONE)
        return response

    async def _stream(self, request: web.Request, reply: Reply, ask: Ask) -> web.StreamResponse:
        response = await _events(request)
        stream = _Stream(response, reply, ask)
        pairs = [(prompt, number) for prompt in ask.prompts for number in range(ask.n)]
        try:
            await asyncio.gather(
                *(
                    stream.choice(index, prompt, self._answers.stream(ask, prompt, number))
                    for index, (prompt, number) in enumerate(pairs)
                )
            )
        except SandboxError as error:
            # The status is out: a stream can only break off.
            if request.transport:
                request.transport.close()
            raise ConnectionResetError from error
        await response.write(_DONE)
        return response


class _Stream:
    """A request's answers as events, as their tokens come."""

    def __init__(self, response: web.StreamResponse, reply: Reply, ask: Ask) -> None:
        self._response, self._reply, self._ask = response, reply, ask
        self._opened = not ask.chat

    async def choice(self, index: int, prompt: Prompt, parts: AsyncGenerator[Part, None]) -> None:
        said = made = 0
        async with aclosing(parts):
            async for part in parts:
                made += 1
                tokens = len(prompt.tokens)
                chunk = self._reply.chunk(index, part, said=said, prompt=tokens, made=made)
                await self._response.write(self._opening(prompt) + _event(chunk))
                said += len(part.text)

    def _opening(self, prompt: Prompt) -> bytes:
        """Return what comes before the first token of all choices of a chat."""
        if self._opened:
            return b""
        self._opened = True
        events = [{"role": self._ask.role}] + [{"content": prompt.echo}] * bool(prompt.echo)
        return b"".join(
            _event(self._reply.opening(index, delta))
            for delta in events
            for index in range(self._ask.n)
        )


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidValue as error:
        return _error(error.rule, "BadRequestError", 400)
    except NotFound as error:
        return _error(error.what, "NotFoundError", 404)
    except SandboxError:
        return web.Response(status=500, text="Internal Server Error")
    except web.HTTPException as error:
        return web.json_response({"detail": error.reason}, status=error.status)
    except ConnectionResetError:
        # The client left while its answer was being written; nobody reads this one.
        return web.Response(status=499)


async def _events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    return response


_DONE = b"data: [DONE]\n\n"


def _event(chunk: replies.Json) -> bytes:
    return f"data: {_dumps(chunk)}\n\n".encode()


def _error(message: str, kind: str, code: int) -> web.Response:
    return web.json_response(replies.error(message, kind, code), status=code, dumps=_dumps)


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def _health(_: web.Request) -> web.Response:
    return web.Response()


async def _version(_: web.Request) -> web.Response:
    return web.json_response({"version": VERSION})
