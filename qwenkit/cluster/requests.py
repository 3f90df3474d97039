"""Send a request to the API server once: its answer, or an error that says if a retry may help."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from qwenkit.cluster.api.retries import Retries, Transient, failed, is_transient, is_untrusted
from qwenkit.cluster.api.transport import NoAnswer, Pieces, Reply, Request, Transport, single
from qwenkit.cluster.api_errors import from_api, message_of, not_an_api, unreachable
from qwenkit.cluster.kinds import POD, Kind, Obj

_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_SILENCE_S = 30.0  # how long a log that is followed may be silent


def access_review(right: Mapping[str, str]) -> Request:
    """Return the question whether this role has a right, given as ``resourceAttributes``."""
    head = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    body = head | {"spec": {"resourceAttributes": dict(right)}}
    return Request("POST", _ACCESS_REVIEWS, body=body)


class ApiRequests:
    """The requests to one API server; the errors name what each was for."""

    def __init__(self, transport: Transport, retries: Retries, context: str) -> None:
        self._transport, self._retries, self._context = transport, retries, context

    def object(self, request: Request, what: str, kind: Kind, name: str) -> Obj:
        """Send a request once whose answer is an object.

        Raises:
            Transient: it failed, and the same request may succeed later.
            QwenkitError: it failed for good.
        """
        return self.read(single, request, what, kind, name)

    def read(
        self,
        read: Callable[[Reply], Obj],
        request: Request,
        what: str,
        kind: Kind | None = None,
        name: str = "",
    ) -> Obj:
        """Send a request once and read its answer, which a proxy may have cut or replaced."""
        reply = self.send(request, what, kind, name)
        try:
            return read(reply)
        except ValueError as error:
            raise failed(reply, not_an_api(reply, self._transport.address, str(error))) from None

    def send(self, request: Request, what: str, kind: Kind | None = None, name: str = "") -> Reply:
        """Send a request once; return its answer if it is a success.

        Raises:
            Transient: it failed, and the same request may succeed later.
            QwenkitError: it failed for good.
        """
        with self._judged(what, kind, name) as judge:
            reply = self._transport.send(request, limit_s=self._retries.limit_s())
            judge(reply)
        return reply

    def follow(self, request: Request, what: str, pod: str) -> Pieces:
        """Send a request once; return the body of its answer as it comes."""
        with self._judged(what, POD, pod) as judge:
            reply, pieces = self._transport.stream(
                request, limit_s=self._retries.limit_s(), silence_s=_SILENCE_S
            )
            try:
                judge(reply)
            except Exception:
                pieces.close()
                raise
        return pieces

    @contextmanager
    def _judged(self, what: str, kind: Kind | None, name: str) -> Iterator[Callable[[Reply], None]]:
        """Yield a function that raises unless an answer is a success; no answer is a failure."""
        facts = {"kind": kind.kind, "name": name} if kind else {}

        def judge(reply: Reply) -> None:
            if 200 <= reply.status < 300 and not reply.is_html:
                return
            error, message = from_api(reply, f"{what} failed", **facts), message_of(reply)
            if is_transient(reply, message):
                raise failed(reply, error)
            raise error

        try:
            yield judge
        except NoAnswer as error:
            found = unreachable(str(error), self._transport.address, self._context, what, **facts)
            raise found if is_untrusted(str(error)) else Transient(found) from None
