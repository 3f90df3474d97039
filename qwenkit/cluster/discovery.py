"""Which URL serves which kind: one request for each API version, kept in memory.

The dynamic client's own discovery keeps a file in the temporary directory, named after the
server's address; a port that a sandbox used may belong to another cluster the next time.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from qwenkit.cluster.kinds import Kind, Obj
from qwenkit.errors import NotFound

_INSTALL_KNATIVE = "install Knative Serving (ACK: console, Applications > Knative)"


class Resources:
    """The kinds that a cluster serves, read when they are first used.

    ``read`` returns the JSON at a path of the API, or raises ``NotFound``.
    """

    def __init__(self, dynamic: Any, read: Callable[[str], Obj]) -> None:
        self._dynamic, self._read = dynamic, read
        self._known: dict[str, dict[str, Any]] = {}
        self._lock = Lock()

    def of(self, kind: Kind) -> Any:
        """Return the dynamic client's resource for a kind.

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
                _INSTALL_KNATIVE if "knative.dev/" in kind.api_version else "",
                kind=kind.kind,
            )
        return found

    def _discover(self, api_version: str) -> dict[str, Any]:
        from kubernetes.dynamic import resource

        make: Any = resource.Resource
        prefix = "apis" if "/" in api_version else "api"
        group, _, version = api_version.rpartition("/")
        try:
            answer = self._read(f"/{prefix}/{api_version}")
        except NotFound:
            return {}
        return {
            entry["kind"]: make(
                prefix=prefix,
                group=group,
                api_version=version,
                client=self._dynamic,
                kind=entry["kind"],
                name=entry["name"],
                namespaced=entry["namespaced"],
            )
            for entry in answer.get("resources") or []
            if "/" not in entry["name"]
        }
