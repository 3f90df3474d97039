"""Which URL serves which kind: one request for each API version, kept in memory.

The client library's own discovery keeps a file in the temporary directory, named after the
server's address; a port that a sandbox used may belong to another cluster the next time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from urllib.parse import quote

from qwenkit.cluster.kinds import Kind, Obj
from qwenkit.errors import NotFound

INSTALL_KNATIVE = "install Knative Serving (ACK: console, Applications > Knative)"


@dataclass(frozen=True)
class Resource:
    """The path of an API version, a kind's plural there, and whether it has a namespace."""

    base: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str = "") -> str:
        """Return the path of an object, or of all objects of the kind."""
        where = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        return f"{self.base}{where}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


class Resources:
    """The kinds that a cluster serves, read when they are first used.

    ``read`` returns the JSON at a path of the API, or raises ``NotFound``.
    """

    def __init__(self, read: Callable[[str], Obj]) -> None:
        self._read = read
        self._known: dict[str, dict[str, Resource]] = {}
        self._lock = Lock()

    def of(self, kind: Kind) -> Resource:
        """Return where a kind is served.

        Raises:
            NotFound: the cluster does not serve it.
        """
        with self._lock:
            # A missing kind is looked up again: its CRD may have been installed since.
            if kind.kind not in self._known.get(kind.api_version, {}):
                self._known[kind.api_version] = self._discover(kind.api_version)
            found = self._known[kind.api_version].get(kind.kind)
        if found is None:
            raise NotFound(
                f"the cluster does not serve {kind.kind} of {kind.api_version}",
                "no such API is installed",
                INSTALL_KNATIVE if "knative.dev/" in kind.api_version else "",
                kind=kind.kind,
            )
        return found

    def _discover(self, api_version: str) -> dict[str, Resource]:
        base = f"/{'apis' if '/' in api_version else 'api'}/{api_version}"
        try:
            answer = self._read(base)
        except NotFound:
            return {}
        return {
            entry["kind"]: Resource(base, entry["name"], entry["namespaced"])
            for entry in answer["resources"]
            if "/" not in entry["name"]
        }
