"""vLLM's OpenAI server: its routes, on one pod's files and one pod's GPU."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress

from aiohttp import web

from qwenkit.capacity.scheduler import SchedulerLimits, scheduler_of
from qwenkit.errors import InvalidValue, NotFound, SandboxError
from qwenkit.sandbox.connections import bodies as bounded
from qwenkit.sandbox.controllers.clock import Clock, loop_time
from qwenkit.sandbox.engine import bodies, requests, responses
from qwenkit.sandbox.engine.batch import Batch, Hardware
from qwenkit.sandbox.engine.checkpoint import LoadedModel
from qwenkit.sandbox.engine.flags import Flags
from qwenkit.sandbox.engine.metrics import Metrics
from qwenkit.sandbox.engine.output import Delta, SequenceOutput, joined
from qwenkit.sandbox.engine.releases import PAGE
from qwenkit.sandbox.engine.requests import GenerationRequest, ServedModel
from qwenkit.sandbox.engine.responses import ResponseWriter
from qwenkit.sandbox.engine.sampling import Sampler

_MAX_BODY = 64 * 2**20
# Reading a body of this size takes too long for the event loop.
_LARGE = 2**18
# For clients that are still sending their request when the engine dies.
_DRAIN_S = 1.0
_DONE = b"data: [DONE]\n\n"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class EngineServer:
    """One vLLM server. ``app`` serves it; it runs while that application does."""

    def __init__(
        self,
        flags: Flags,
        loaded: LoadedModel,
        hardware: Hardware,
        *,
        max_model_len: int,
        time_scale: float | Clock,
    ) -> None:
        self._flags = flags
        self._tokenizer = loaded.tokenizer
        renamed = flags.release.version >= (0, 12)
        self._metrics = Metrics(flags.served_names[0], max_model_len, renamed=renamed)
        self._served = ServedModel(
            loaded.tokenizer,
            loaded.model.vocab_size,
            max_model_len,
            flags.max_logprobs,
            newer=flags.release.newer,
        )
        v1 = flags.release.v1
        limits = SchedulerLimits(
            flags.block_size,
            # V1 keeps one block for itself; the longest sequence must fit beside it.
            hardware.kv_tokens // flags.block_size + v1,
            flags.max_num_seqs,
            hardware.step_tokens,
            max_model_len,
            flags.reads_in_chunks,
        )
        scheduler = scheduler_of(flags.release.version if v1 else PAGE.version, limits)
        self._batch = Batch(loaded.model, hardware, self._metrics, scheduler, time_scale=time_scale)
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.last_request = 0.0
        """When a request last came or ended, on the loop's clock; probes do not count."""

    async def failure(self) -> Exception:
        """Wait until the engine dies and every client has its answer; return why it died."""
        error = await self._batch.failure()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self._idle.wait()
        return error

    def app(self) -> web.Application:
        """Return the server."""
        app = web.Application(client_max_size=_MAX_BODY, middlewares=[self._middleware])
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completion)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/version", self._version)
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
        self._batch.close()

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/v1"):
            return await self._answered(request, handler)
        accepted = [f"Bearer {key}" for key in self._flags.api_keys]
        if accepted and request.headers.get("Authorization") not in accepted:
            return web.json_response({"error": "Unauthorized"}, status=401)
        self.in_flight += 1
        self._idle.clear()
        self.last_request = loop_time()
        try:
            return await self._answered(request, handler)
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()
            self.last_request = loop_time()

    async def _models(self, _: web.Request) -> web.Response:
        names, more = self._flags.served_names, dict[str, object]()
        root = names[0]
        if self._flags.release.newer:
            root, more = self._flags.model, {"max_model_len": self._served.max_model_len}
        return web.json_response(responses.models(names, root, more))

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": str(self._flags.release)})

    async def _exposition(self, _: web.Request) -> web.Response:
        kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.exposition(), headers=kind)

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except InvalidValue as error:
            return self._error(error.rule, "BadRequestError", 400)
        except NotFound as error:
            return self._error(error.what, "NotFoundError", 404)
        except SandboxError:
            return web.Response(status=500, text="Internal Server Error")
        except web.HTTPException as error:
            return web.json_response({"detail": error.reason}, status=error.status)
        except ConnectionResetError:
            # The client left while its answer was being written: this one is not read.
            return web.Response(status=499)

    def _error(self, message: str, kind: str, code: int) -> web.Response:
        found = responses.error(message, kind, code, self._flags.release)
        return web.json_response(found, status=code, dumps=_dumps)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, self._read_chat)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, self._read_completion)

    def _read_chat(self, raw: bytes) -> GenerationRequest:
        body = bodies.parse(raw, bodies.ChatBody)
        self._check_model(body.model)
        return requests.chat(body, self._served)

    def _read_completion(self, raw: bytes) -> GenerationRequest:
        body = bodies.parse(raw, bodies.CompletionBody)
        self._check_model(body.model)
        return requests.completion(body, self._served)

    def _check_model(self, name: str) -> None:
        if name not in self._flags.served_names:
            raise NotFound(f"The model `{name}` does not exist.")

    async def _serve(
        self, request: web.Request, read: Callable[[bytes], GenerationRequest]
    ) -> web.StreamResponse:
        async with bounded.body(request, most=_MAX_BODY) as raw:
            wanted = await asyncio.to_thread(read, raw) if len(raw) > _LARGE else read(raw)
        self._metrics.count_request(wanted.n)
        writer = ResponseWriter(
            wanted,
            self._flags.served_names[0],
            self._flags.response_role,
            self._tokenizer,
            newer=self._flags.release.newer,
        )
        answers = [
            self._generate(wanted, prompt, number)
            for prompt in wanted.prompts
            for number in range(wanted.n)
        ]
        if wanted.stream:
            return await _stream(request, _Events(writer), answers)
        whole = await asyncio.gather(*map(_collected, answers))
        return web.json_response(writer.whole(whole), dumps=_dumps)

    async def _generate(
        self, wanted: GenerationRequest, prompt: Sequence[int], number: int
    ) -> AsyncGenerator[Delta, None]:
        """Yield one of a prompt's answers token by token, and count how it ended."""
        arrived, reason, generated = loop_time(), "abort", 0
        sampler = Sampler(wanted.sampling, logprobs=wanted.logprobs, choice=number)
        output = SequenceOutput(wanted, self._tokenizer)
        try:
            async with aclosing(self._batch.generate(prompt, sampler, output)) as deltas:
                async for delta in deltas:
                    generated, reason = generated + 1, delta.finish_reason or reason
                    yield delta
        finally:
            self._metrics.count_answer(
                reason, prompt=len(prompt), generated=generated, seconds=loop_time() - arrived
            )


class _Events:
    """The server-sent events of one request's answers."""

    def __init__(self, writer: ResponseWriter) -> None:
        self._writer = writer
        self._opened = not writer.request.chat
        self._generated = 0

    async def choice(
        self, index: int, deltas: AsyncGenerator[Delta, None], response: web.StreamResponse
    ) -> None:
        """Write one choice as its tokens come."""
        sent = generated = 0
        request = self._writer.request
        prompt = len(request.prompts[index // request.n])
        async with aclosing(deltas):
            async for delta in deltas:
                generated += 1
                self._generated += 1
                chunk = self._writer.chunk(
                    index, delta, sent=sent, prompt=prompt, generated=generated
                )
                await response.write(self._opening() + _event(chunk))
                sent += len(delta.text)

    def ending(self) -> bytes:
        """Return the events after the last token."""
        if not self._writer.newer or not self._writer.request.include_usage:
            return _DONE
        return _event(self._writer.usage(self._generated)) + _DONE

    def _opening(self) -> bytes:
        """Return the events before the first token of a chat: the role of every choice."""
        if self._opened:
            return b""
        self._opened = True
        choices = range(self._writer.request.n)
        return b"".join(_event(self._writer.opening(index)) for index in choices)


async def _stream(
    request: web.Request, events: _Events, answers: Sequence[AsyncGenerator[Delta, None]]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    try:
        await asyncio.gather(
            *(events.choice(index, deltas, response) for index, deltas in enumerate(answers))
        )
    except SandboxError as error:
        # The status is sent: a stream can only break off.
        if request.transport:
            request.transport.close()
        raise ConnectionResetError from error
    await response.write(events.ending())
    return response


async def _collected(deltas: AsyncGenerator[Delta, None]) -> Delta:
    async with aclosing(deltas):
        return joined([delta async for delta in deltas])


def _event(chunk: responses.Json) -> bytes:
    return f"data: {_dumps(chunk)}\n\n".encode()


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def _health(_: web.Request) -> web.Response:
    return web.Response()
