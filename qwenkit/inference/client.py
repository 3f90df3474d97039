"""Query the served model through the Knative gateway: the Host header selects the Service.

``Server.client`` is an ordinary OpenAI client, with the gateway as its base URL and the Host as a
default header.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from qwenkit.credentials import from_environment
from qwenkit.errors import QwenkitError
from qwenkit.inference import failures
from qwenkit.inference.raw import CONNECT_S, RawAnswer, base_url, curl_command, get
from qwenkit.loopback import is_loopback

if TYPE_CHECKING:
    import openai


# What reading an answer raises that is JSON of another form, or none.
_ODD = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
_JSON: Any = object  # for this type the OpenAI client returns the plain JSON


@dataclass(frozen=True)
class Answer:
    """A whole answer; ``raw`` is its JSON, ``usage`` its token counts."""

    text: str
    finish_reason: str
    usage: dict[str, int]
    raw: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class StreamStats:
    """Times of a streamed answer: to the first token, and between the later ones."""

    ttft_s: float
    tpot_s: float
    tokens: int
    seconds: float
    finish_reason: str


def load_transport(server: Server) -> Callable[[], Any]:
    """Return a function that creates an asynchronous HTTP client, one per client of a load."""
    import openai

    return partial(
        openai.DefaultAsyncHttpxClient,
        base_url=server.gateway,
        headers={
            "Host": server.host,
            "Authorization": f"Bearer {_api_key()}",
            "Content-Type": "application/json",
        },
        timeout=openai.Timeout(server.timeout_s, connect=min(CONNECT_S, server.timeout_s)),
        trust_env=not is_loopback(server.gateway),
        # Shared, because reading the machine's certificates takes longer than most requests.
        verify=ssl.create_default_context(),
    )


def _api_key() -> str:
    return from_environment("OPENAI_API_KEY") or "none"


class Server:
    """A served model behind a gateway.

    ``gateway`` is a base URL, ``host`` the Service's host name, ``model`` the name that clients
    send. ``timeout_s`` is the limit of one request, cold start included.

    >>> from qwenkit import Settings, find_server
    >>> server = find_server(Settings())
    >>> answer = server.ask("杭州西湖", max_tokens=2)
    >>> answer.usage["completion_tokens"]
    2
    """

    def __init__(self, gateway: str, host: str, *, model: str, timeout_s: float = 600) -> None:
        self.gateway, self.host, self.model = base_url(gateway), host, model
        self.timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"Server({self.gateway!r}, {self.host!r}, model={self.model!r})"

    @cached_property
    def client(self) -> openai.OpenAI:
        """The OpenAI client of ``ask`` and ``stream``, for any other request too.

        Its API key is ``OPENAI_API_KEY``, or ``none`` if that is not set.
        """
        import openai

        return openai.OpenAI(
            base_url=f"{self.gateway}/v1",
            api_key=_api_key(),
            default_headers={"Host": self.host} if self.host else {},
            timeout=openai.Timeout(self.timeout_s, connect=min(CONNECT_S, self.timeout_s)),
            max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=not is_loopback(self.gateway)),
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
        """Return the curl command of the same request."""
        return curl_command(self.gateway, self.host, self.body(prompt, **sampling))

    def ask(self, prompt: str, **sampling: Any) -> Answer:
        """Send one prompt and return the whole answer.

        ``sampling`` are vLLM's parameters: ``max_tokens``, ``temperature``, ``top_p``, ``seed`` ...

        Raises:
            NotFound: the host or the model is unknown; the message says which.
            NotReady: no pod answers (503).
            WaitTimeout: the cold start or the queue took longer than a timeout.
            Unreachable: nothing listens at the gateway's address.
            Rejected: the server refuses a parameter.
        """
        client = self.client
        start = time.perf_counter()
        with self._our_errors():
            response = client.post(
                "/chat/completions", body=self.body(prompt, **sampling), cast_to=_JSON
            )
            return _answer(response, time.perf_counter() - start)

    def stream(self, prompt: str, **sampling: Any) -> Stream:
        """Send one prompt; iterate over the answer's pieces, then read ``stats``.

        Raises:
            QwenkitError: as ``ask``; while iterating, also if the stream is cut.
        """
        return Stream(self, self.body(prompt, **sampling))

    def without_host(self) -> RawAnswer:
        """Send a request without the Service's host, to show the gateway's answer."""
        return get(self.gateway, "/v1/models", timeout_s=min(self.timeout_s, 30))

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
            ) from None
        except openai.APIError as error:  # an error event in a stream
            raise QwenkitError(
                f"{self.gateway} ended its answer with an error",
                error.message,
                "read the pod's log: kubectl logs",
            ) from None
        except _ODD as error:
            shown = f"{type(error).__name__}: {str(error)[:200]}"
            raise failures.not_openai(self.gateway, f"its answer cannot be read: {shown}") from None


def _answer(raw: Any, seconds: float) -> Answer:
    """Read a whole answer; what is not one raises an error of ``_ODD``."""
    choice = raw["choices"][0]
    return Answer(
        text=str(choice["message"].get("content") or ""),
        finish_reason=str(choice.get("finish_reason") or ""),
        usage=dict(raw.get("usage") or {}),
        raw=raw,
        seconds=seconds,
    )


class Stream:
    """An answer that arrives in pieces. Read ``stats`` after the last one."""

    def __init__(self, server: Server, body: dict[str, Any]) -> None:
        self._server, self._body = server, body
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
        client = self._server.client
        start = time.perf_counter()
        arrivals: list[float] = []
        finish, counted = "", 0
        with self._server._our_errors():
            chunks = client.chat.completions.create(**self._body, stream=True)
            for chunk in chunks:
                counted = chunk.usage.completion_tokens if chunk.usage else counted
                for choice in chunk.choices[:1]:
                    finish = choice.finish_reason or finish
                    if choice.delta.content:
                        arrivals.append(time.perf_counter() - start)
                        yield choice.delta.content
        end = time.perf_counter() - start
        if not finish:
            raise QwenkitError(
                "the stream ended early",
                "no finish_reason came: the revision's timeout or a lost pod cut it",
                "raise request_timeout_s, or ask for fewer tokens",
            )
        first = arrivals[0] if arrivals else end
        tokens = counted or len(arrivals)
        last = arrivals[-1] if arrivals else end
        self._stats = StreamStats(first, (last - first) / max(tokens - 1, 1), tokens, end, finish)
