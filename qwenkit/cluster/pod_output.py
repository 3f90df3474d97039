"""What the containers of pods have written, and what they and Services answer; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

from qwenkit.cluster.api.retries import Retries
from qwenkit.cluster.api.transport import NoAnswer, Request, Transport
from qwenkit.cluster.api_errors import unreachable
from qwenkit.cluster.discovery import Resources
from qwenkit.cluster.kinds import POD, Kind
from qwenkit.cluster.requests import ApiRequests


class PodOutput:
    """The part of ``Cluster`` that reads from pods."""

    namespace: str
    context: str
    _transport: Transport
    _ask: ApiRequests
    _retries: Retries
    _resources: Resources

    def logs(
        self,
        pod: str,
        *,
        container: str,
        lines: int | None = 20,
        previous: bool = False,
        timestamps: bool = False,
        most_bytes: int | None = None,
    ) -> str:
        """Return the last lines of a container's log, or its first bytes with ``lines`` None."""
        query: dict[str, object] = {"container": container, "previous": str(previous).lower()}
        query |= {"tailLines": lines} if lines is not None else {}
        query |= {"limitBytes": most_bytes} if most_bytes is not None else {}
        query |= {"timestamps": "true"} if timestamps else {}
        request, what = self._log(pod, query), f"reading the log of pod {pod}"
        reply = self._retries.run(lambda: self._ask.send(request, what, POD, pod))
        return reply.body.decode("utf-8", "replace")

    def proxied(
        self, kind: Kind, name: str, port: int, path: str, *, namespace: str | None = None
    ) -> str:
        """Return what a pod or a core Service answers to a GET of its port, as text.

        The API server passes it on; nothing else needs to reach the pod.

        Raises:
            Forbidden: this role may not read ``pods/proxy`` or ``services/proxy``.
            Unreachable: nothing listens there, or it refuses.
        """
        where = self._resources.of(kind).path(namespace or self.namespace, f"{name}:{port}")
        request = Request("GET", f"{where}/proxy{path}")
        what = f"reading {path} of {kind} {name}"
        reply = self._retries.run(lambda: self._ask.send(request, what, kind, name))
        return reply.body.decode("utf-8", "replace")

    def follow(self, pod: str, *, container: str) -> Iterator[str]:
        """Yield a container's last lines, then each line that it writes, until it ends.

        Raises:
            Unreachable: the connection broke, or nothing came for 30 s.
            Rejected: the container has not started.
        """
        query = {"container": container, "tailLines": 5, "follow": "true"}
        request, what = self._log(pod, query), f"following the log of pod {pod}"
        rest = b""
        with closing(self._retries.run(lambda: self._ask.follow(request, what, pod))) as pieces:
            try:
                for piece in pieces:
                    *whole, rest = (rest + piece).split(b"\n")
                    yield from (line.decode("utf-8", "replace") for line in whole)
            except NoAnswer as error:
                raise unreachable(str(error), self._transport.address, self.context, what) from None
        if rest:
            yield rest.decode("utf-8", "replace")

    def _log(self, pod: str, query: Mapping[str, object]) -> Request:
        return Request("GET", f"{self._resources.of(POD).path(self.namespace, pod)}/log", query)
