"""Query the served model through the Knative gateway: the Host header selects the Service.

``Server.client`` is an ordinary OpenAI client, with the gateway as its base URL and the Host as a
default header.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import finalize

from qwenkit.credentials import from_environment
from qwenkit.errors import QwenkitError
from qwenkit.inference import failures
from qwenkit.inference.answers import ODD, Answer, StreamStats, read_answer
from qwenkit.inference.clock import told_clock
from qwenkit.inference.events import BadEvent, ChatReader, Piece
from qwenkit.inference.raw import RawAnswer, base_url, curl_command, get, http_client

if TYPE_CHECKING:
    import openai


class Server:
    """A served model behind a gateway.

    ``gateway`` is a base URL, ``host`` the Service's host name, ``model`` the name that clients
    send. ``timeout_s`` is the limit of one request, cold start included. ``api_key`` is the
    server's, by default ``OPENAI_API_KEY``; ``ca`` a file with the authority of an https gateway.
    ``stop_token_ids`` end an answer of a model that does not end it by itself. ``before`` is
    called before each prompt, and may refuse it.
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
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self.gateway, self.host, self.model = base_url(gateway), host, model
        self.timeout_s, self.ca, self._api_key = timeout_s, ca, api_key
        self._before = before
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
        client = openai.OpenAI(
            base_url=f"{self.gateway}/v1",
            api_key=self.key or "none",  # which a server without keys takes
            default_headers={"Host": self.host} if self.host else {},
            timeout=transport.timeout,
            max_retries=0,
            http_client=transport,
        )
        # Nobody closes the server of an expression such as find_server(s).ask("…").
        finalize(client, transport.close)
        return client

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
        self._before()
        body = self.body(prompt, **(self._stops | sampling))
        with self._our_errors(model=body["model"]), ExitStack() as stack:
            _ = self._create  # loaded before the clock starts: it takes longer than a token
            start = time.perf_counter()
            response = stack.enter_context(self._create(**_named(body)))
            data = b"".join(self._in_time(response, start))
            return read_answer(data, time.perf_counter() - start, told_clock(response.headers))

    def stream(
        self, prompt: str, *, on_reasoning: Callable[[str], None] | None = None, **sampling: Any
    ) -> Stream:
        """Send one prompt; iterate over the answer's pieces, then read ``stats``.

        ``on_reasoning`` gets the pieces of a reasoning model's thoughts.

        Raises:
            QwenkitError: as ``ask``; while iterating, also if the stream is cut.
        """
        self._before()
        return Stream(self, self.body(prompt, **(self._stops | sampling)), on_reasoning)

    def get(self, path: str) -> str:
        """Return one of the server's pages, such as ``/metrics``; raises as ``ask``."""
        with self._our_errors():
            return self.client.get(f"{self.gateway}{path}", cast_to=str)

    def without_host(self) -> RawAnswer:
        """Send a request without the Service's host, to show the gateway's answer."""
        limit_s = min(self.timeout_s, 30)
        return get(self.gateway, "/v1/models", ca=self.ca, timeout_s=limit_s)

    @property
    def _create(self) -> Any:
        return self.client.chat.completions.with_streaming_response.create

    def _in_time(self, response: Any, start: float) -> Iterator[bytes]:
        """Yield an answer's bytes, none later than ``timeout_s`` after the request."""
        for data in response.iter_bytes():
            if time.perf_counter() - start > self.timeout_s:
                raise TimeoutError
            yield data

    @contextmanager
    def _our_errors(self, reader: ChatReader | None = None, *, model: str = "") -> Iterator[None]:
        """Turn the HTTP library's errors into ours, without their traceback in its code.

        ``reader`` is that of a stream; ``model`` was asked for, if not the server's.
        """
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            raise failures.from_status(
                error.status_code,
                error.response.text,
                url=self.gateway,
                host=self.host,
                model=model or self.model,
                location=error.response.headers.get("location", ""),
            ) from None
        except BadEvent as error:
            raise failures.bad_event(self.gateway, error) from None
        except ODD as error:
            shown = f"{type(error).__name__}: {str(error)[:200]}"
            raise failures.not_openai(self.gateway, f"its answer cannot be read: {shown}") from None
        except QwenkitError:
            raise
        except Exception as error:
            tokens = None if reader is None else reader.tokens
            raise failures.of_transport(
                self.gateway, error, seconds=self.timeout_s, tokens=tokens
            ) from None


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
        for text, is_reasoning in self._pieces():
            if not is_reasoning:
                yield text
                continue
            self.reasoning += text
            if self._on_reasoning is not None:
                self._on_reasoning(text)

    def _pieces(self) -> Iterator[Piece]:
        """Yield all pieces, and set the statistics after the last one.

        Raises:
            QwenkitError: as ``Server.stream``.
        """
        server, reader = self._server, ChatReader()
        times: list[float] = []
        with ExitStack() as stack:
            with server._our_errors(model=self._body["model"]):
                _ = server._create  # loaded before the clock starts: it takes longer than a token
                start = time.perf_counter()
                response = self._open(stack)
            clock = told_clock(response.headers)
            with server._our_errors(reader, model=self._body["model"]):
                for data in server._in_time(response, start):
                    for piece in reader.feed(data):
                        times.append(time.perf_counter() - start)
                        yield piece
                reader.require_whole()
        end = time.perf_counter() - start
        tokens, first, last = reader.tokens, times[0] if times else end, times[-1] if times else end
        self._stats = StreamStats(
            ttft_s=first,
            tpot_s=(last - first) / max(tokens - 1, 1),
            tokens=tokens,
            reasoning_tokens=reader.reasoning_tokens,
            seconds=end,
            finish_reason=reader.finish,
            clock=clock,
        )

    def _open(self, stack: ExitStack) -> Any:
        """Send the request, with token counts if the server has them."""
        import openai

        def start(**more: Any) -> Any:
            asked = _named({**more, **self._body})
            return stack.enter_context(self._server._create(**asked, stream=True))

        try:
            return start(stream_options={"include_usage": True})
        except (openai.BadRequestError, openai.UnprocessableEntityError):
            return start()  # an older server does not know the option


def _named(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request's JSON as arguments of the OpenAI client, which knows few of vLLM's."""
    rest = dict(body)
    return {name: rest.pop(name) for name in ("model", "messages")} | {"extra_body": rest}


def ask_clock(find: Callable[[], Server]) -> float:
    """Ask a server for one token, and return the clock that it tells; 1 if it does not answer."""
    try:
        with closing(find()) as server:
            return server.ask("1", max_tokens=1).clock
    except QwenkitError:
        return 1.0
