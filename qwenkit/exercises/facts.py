"""What a grader may look at: settings, a learner's answer, objects, the bucket, the server."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from qwenkit.cluster.kinds import Kind, Obj, kind_of, labels_of, name_of

if TYPE_CHECKING:
    from qwenkit.cluster.client import Cluster
    from qwenkit.inference.client import Server
    from qwenkit.settings import Settings
    from qwenkit.weights.store import BucketWeights


class Facts:
    """Facts that are given: plain objects, a bucket's texts by key, pages of the server by path.

    ``answer`` is what the learner answered, None if nothing; ``passed`` names the exercises that
    he has passed on this target.
    """

    passed: Collection[str] = ()

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        answer: object = None,
        objects: Iterable[Obj] = (),
        bucket: Mapping[str, str] | None = None,
        pages: Mapping[str, str] | None = None,
    ) -> None:
        self._settings, self.answer = settings, answer
        self._given, self._bucket, self._pages = tuple(objects), bucket or {}, pages or {}

    @property
    def settings(self) -> Settings:
        """The parameters of the target."""
        assert self._settings is not None, "an exercise about a target needs one"
        return self._settings

    def find(self, kind: Kind, name: str) -> Obj | None:
        """Return one object of the namespace, or of the cluster; None if it is not there."""
        return next((obj for obj in self.list(kind) if name_of(obj) == name), None)

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Obj]:
        """Return the objects of a kind in the namespace, or in the cluster."""
        wanted = (labels or {}).items()
        found = [obj for obj in self._given if kind_of(obj) == kind]
        return [obj for obj in found if wanted <= labels_of(obj).items()]

    def objects(self, prefix: str | None = None) -> dict[str, int]:
        """Return key → size in bytes of the bucket's objects whose key starts with ``prefix``.

        Without it, of those in the folder of the weights.
        """
        start = f"{self.settings.prefix}/" if prefix is None else prefix
        return {
            key: len(text.encode()) for key, text in self._bucket.items() if key.startswith(start)
        }

    def get(self, path: str) -> str:
        """Return a page of the served model, such as ``/v1/models`` or ``/metrics``."""
        return self._pages[path]

    def close(self) -> None:
        """Close what was opened to read the facts."""


class LiveFacts(Facts):
    """Facts read from the target when a grader asks for them.

    Each method raises the ``QwenkitError`` that says why the target cannot be read.
    """

    @cached_property
    def _cluster(self) -> Cluster:
        from qwenkit.cluster.client import Cluster

        return Cluster.connect(self.settings)

    @cached_property
    def _server(self) -> Server:
        from qwenkit.steps import find_server

        return find_server(self.settings)

    @cached_property
    def _weights(self) -> BucketWeights:
        from qwenkit.weights.store import BucketWeights

        return BucketWeights.of(self.settings)

    def find(self, kind: Kind, name: str) -> Obj | None:
        """Read one object."""
        return self._cluster.find(kind, name)

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Obj]:
        """Read the objects of a kind."""
        return self._cluster.list(kind, labels=labels)

    def objects(self, prefix: str | None = None) -> dict[str, int]:
        """List the bucket."""
        from qwenkit.weights.oss.bucket import list_objects

        start = f"{self.settings.prefix}/" if prefix is None else prefix
        return {one.key: one.size for one in list_objects(self._weights.bucket, start)}

    def get(self, path: str) -> str:
        """Ask the server, behind the gateway."""
        return self._server.get(path)

    def close(self) -> None:
        """Close the connections."""
        for name in ("_cluster", "_server"):
            if opened := vars(self).pop(name, None):
                opened.close()
