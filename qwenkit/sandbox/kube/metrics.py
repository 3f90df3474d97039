"""What the API server counts of its own requests, as its ``/metrics`` says it: Prometheus text."""

from __future__ import annotations

from collections import Counter

_NAME = "apiserver_request_total"
_HELP = "Counter of apiserver requests broken out for each verb and code."
_VERBS = "GET LIST WATCH PATCH DELETE DELETECOLLECTION"
_NAMES = dict.fromkeys(_VERBS.split()) | {"CREATE": "POST", "UPDATE": "PUT"}


class RequestCounter:
    """Counts requests by verb and status, the only one of the server's real metrics."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, str]] = Counter()

    def add(self, verb: str, status: int) -> None:
        """Count an answered request; a method may be any word, so unknown ones are one."""
        verb = verb.upper()
        name = (_NAMES[verb] or verb) if verb in _NAMES else "other"
        self._counts[status, name] += 1

    def text(self) -> str:
        """Return the exposition."""
        lines = [
            f'{_NAME}{{code="{status}",verb="{verb}"}} {count}'
            for (status, verb), count in sorted(self._counts.items())
        ]
        return "\n".join([f"# HELP {_NAME} {_HELP}", f"# TYPE {_NAME} counter", *lines, ""])
