"""Query the served model through the Knative gateway: the Host header selects the Service.

``Server.client`` is an ordinary OpenAI client, with the gateway as its base URL and the Host as a
default header.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qwenkit.capacity.simulation.clock import clock_note, on_gpu
from qwenkit.credentials import from_environment
from qwenkit.errors import QwenkitError
from qwenkit.inference import failures
from qwenkit.inference.clock import told_clock
from qwenkit.inference.events import BadEvent, ChatReader
from qwenkit.inference.raw import RawAnswer, base_url, curl_command, get, http_client

if TYPE_CHECKING:
    import openai


# What reading an answer raises that is JSON of another form, or none.
_ODD = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class Answer:
    """A whole answer; ``raw`` is its JSON, ``usage`` its token counts.

    ``reasoning`` is what a reasoning model thought before the text; ``clock`` is how many times
    faster than the GPU that it models the server runs, 1 on a real one.
    """

    text: str
    reasoning: str
    finish_reason: str
    usage: dict[str, int]
    raw: dict[str, Any]
    seconds: float
    clock: float


@dataclass(frozen=True, repr=False)
class StreamStats:
    """Times of a streamed answer: to the first token, and between the later ones.

    ``tokens`` includes those of the reasoning; ``clock`` is that of ``Answer``.
    """

    ttft_s: float
    tpot_s: float
    tokens: int
    reasoning_tokens: int
    seconds: float
    finish_reason: str
    clock: float

    def __str__(self) -> str:
        line = f"TTFT {on_gpu(self.ttft_s, self.clock)}"
        if self.tokens > 1:
            line += f", TPOT {on_gpu(self.tpot_s, self.clock)}, {self.tokens} tokens"
        return "\n".join(filter(None, [line, clock_note(self.clock)]))

    __repr__ = __str__


class Server:
    """A served model behind a gateway.

    ``gateway`` is a base URL, ``host`` the Service's host name, ``model`` the name that clients
    send. ``timeout_s`` is the limit of one request, cold start included. ``api_key`` is the
    server's, by default ``OPENAI_API_KEY``; ``ca`` a file with the authority of an https gateway.
    ``stop_token_ids`` end an answer of a model that does not end it by itself.
    """

    def __init__(
        self,
        gateway: str,
        host: str,
        *,
        model: str,
        timeout_s: float = 600,
        api_key: str = "",
        ca: str = "",
        stop_token_ids: Sequence[int] = (),
    ) -> None:
        self.gateway, self.host, self.model = base_url(gateway), host, model
        self.timeout_s, self.ca, self._api_key = timeout_s, ca, api_key
        self._stops = {"stop_token_ids": [*stop_token_ids]} if stop_token_ids else {}

    def __repr__(self) -> str:
        return f"Server({self.gateway!r}, {self.host!r}, model={self.model!r})"

    @property
    def key(self) -> str:
        """The API key, which is never shown; empty if there is none."""
        return self._api_key or from_environment("OPENAI_API_KEY")

    @property
    def shell(self) -> dict[str, str]:
        """The variables that the command of ``curl`` needs; never print them."""
        return {"OPENAI_API_KEY": self.key} if self.key else {}

    @cached_property
    def client(self) -> openai.OpenAI:
        """The OpenAI client of ``ask`` and ``stream``, for any other request too."""
        import openai

        transport = http_client(self.gateway, self.ca, self.timeout_s)
        return openai.OpenAI(
            base_url=f"{self.gateway}/v1",
            api_key=self.key or "none",  # which a server without keys takes
            default_headers={"Host": self.host} if self.host else {},
            timeout=transport.timeout,
            max_retries=0,
            http_client=transport,
        )

    def close(self) -> None:
        """Release the connections."""
        if "client" in self.__dict__:
            self.client.close()

    def body(self, prompt: str, **sampling: Any) -> dict[str, Any]:
        """Return the request's JSON: one user message, and the sampling parameters."""
        messages = [{"role": "user", "content": prompt}]
        return {"model": self.model, "messages": messages, **sampling}

    def curl(self, prompt: str, **sampling: Any) -> str:
        """Return the curl command of the same request; a key is named, not shown."""
        body = self.body(prompt, **sampling)
        return curl_command(self.gateway, self.host, body, ca=self.ca, keyed=bool(self.key))

    def ask(self, prompt: str, **sampling: Any) -> Answer:
        """Send one prompt and return the whole answer.

        ``sampling`` are vLLM's parameters: ``max_tokens``, ``temperature``, ``top_p``, ``seed`` ...

        Raises:
            NotFound: the host or the model is unknown; the message says which.
            Forbidden: the server wants an API key, or another one (401).
            NotReady: no pod answers (503).
            WaitTimeout: the cold start or the queue took longer than a timeout.
            Unreachable: nothing listens at the gateway's address.
            Rejected: the server refuses a parameter.
        """
        import httpx

        client = self.client
        start = time.perf_counter()
        with self._our_errors():
            response = client.post(
                "/chat/completions",
                body=self.body(prompt, **(self._stops | sampling)),
                cast_to=httpx.Response,
            )
            seconds = time.perf_counter() - start
            return _answer(response.json(), seconds, told_clock(response.headers))

    def stream(
        self, prompt: str, *, on_reasoning: Callable[[str], None] | None = None, **sampling: Any
    ) -> Stream:
        """Send one prompt; iterate over the answer's pieces, then read ``stats``.

        ``on_reasoning`` gets the pieces of a reasoning model's thoughts.

        Raises:
            QwenkitError: as ``ask``; while iterating, also if the stream is cut.
        """
        return Stream(self, self.body(prompt, **(self._stops | sampling)), on_reasoning)

    def get(self, path: str) -> str:
        """Return one of the server's pages, such as ``/metrics``; raises as ``ask``."""
        with self._our_errors():
            return self.client.get(f"{self.gateway}{path}", cast_to=str)

    def without_host(self) -> RawAnswer:
        """Send a request without the Service's host, to show the gateway's answer."""
        limit_s = min(self.timeout_s, 30)
        return get(self.gateway, "/v1/models", ca=self.ca, timeout_s=limit_s)

    @contextmanager
    def _our_errors(self) -> Iterator[None]:
        """Turn the OpenAI client's errors into ours, without their traceback in the HTTP stack."""
        import openai

        try:
            yield
        except openai.APITimeoutError:
            raise failures.timed_out(self.gateway, self.timeout_s) from None
        except openai.APIConnectionError as error:
            raise failures.unreachable(self.gateway, error) from None
        except openai.APIStatusError as error:
            raise failures.from_status(
                error.status_code,
                error.response.text,
                url=self.gateway,
                host=self.host,
                model=self.model,
                location=error.response.headers.get("location", ""),
            ) from None
        except BadEvent as error:
            raise failures.bad_event(self.gateway, error) from None
        except _ODD as error:
            shown = f"{type(error).__name__}: {str(error)[:200]}"
            raise failures.not_openai(self.gateway, f"its answer cannot be read: {shown}") from None


def _answer(raw: Any, seconds: float, clock: float) -> Answer:
    """Read a whole answer; what is not one raises an error of ``_ODD``."""
    choice = raw["choices"][0]
    message = choice["message"]
    return Answer(
        text=str(message.get("content") or ""),
        reasoning=str(message.get("reasoning_content") or message.get("reasoning") or ""),
        finish_reason=str(choice.get("finish_reason") or ""),
        usage=dict(raw.get("usage") or {}),
        raw=raw,
        seconds=seconds,
        clock=clock,
    )


class Stream:
    """An answer that arrives in pieces. Read ``stats`` and ``reasoning`` after the last one."""

    def __init__(
        self,
        server: Server,
        body: dict[str, Any],
        on_reasoning: Callable[[str], None] | None = None,
    ) -> None:
        self._server, self._body, self._on_reasoning = server, body, on_reasoning
        self.reasoning = ""
        self._clock = 1.0
        self._stats: StreamStats | None = None

    @property
    def stats(self) -> StreamStats:
        """The times of the whole stream.

        Raises:
            QwenkitError: it has not been read to its end.
        """
        if self._stats is None:
            raise QwenkitError(
                "the stream has no statistics yet",
                "it has not been read to its end",
                "iterate over all its pieces first",
            )
        return self._stats

    def __iter__(self) -> Iterator[str]:
        times: list[float] = []
        reader = ChatReader()
        with self._server._our_errors(), ExitStack() as stack:
            # Loaded before the clock starts: it takes longer than a token.
            _ = self._server.client.chat.completions.with_streaming_response
            start = time.perf_counter()
            for data in self._chunks(stack, reader):
                for text, is_reasoning in reader.feed(data):
                    times.append(time.perf_counter() - start)
                    if not is_reasoning:
                        yield text
                        continue
                    self.reasoning += text
                    if self._on_reasoning is not None:
                        self._on_reasoning(text)
        end = time.perf_counter() - start
        tokens, first, last = reader.tokens, times[0] if times else end, times[-1] if times else end
        self._stats = StreamStats(
            ttft_s=first,
            tpot_s=(last - first) / max(tokens - 1, 1),
            tokens=tokens,
            reasoning_tokens=reader.reasoning_tokens,
            seconds=end,
            finish_reason=reader.finish,
            clock=self._clock,
        )

    def _chunks(self, stack: ExitStack, reader: ChatReader) -> Iterator[bytes]:
        """Yield the bytes of a stream, with token counts if the server has them.

        Raises:
            QwenkitError: the stream was cut, or nothing came in time.
        """
        import openai

        server = self._server

        def start(**more: Any) -> Any:
            create = server.client.chat.completions.with_streaming_response.create
            asked = {**more, **self._body}
            known = {name: asked.pop(name) for name in ("model", "messages")}
            return stack.enter_context(create(**known, stream=True, extra_body=asked))

        try:
            response = start(stream_options={"include_usage": True})
        except (openai.BadRequestError, openai.UnprocessableEntityError):
            response = start()  # an older server does not know the option
        self._clock = told_clock(response.headers)
        try:
            yield from response.iter_bytes()
        except Exception as error:
            kind = failures.kind(error)
            if kind == "timeout":
                raise failures.timed_out(server.gateway, server.timeout_s) from None
            raise failures.cut(server.gateway, reader.tokens) from None
        if reader.strange:
            raise failures.not_openai(server.gateway, failures.no_stream(reader.strange))
        if not reader.finish:
            raise failures.cut(server.gateway, reader.tokens)
