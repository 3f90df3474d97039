"""What a grader may look at: settings, a learner's answer, objects, the bucket, the server."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from qwenkit.cluster.kinds import Kind, Obj

if TYPE_CHECKING:
    from qwenkit.cluster.client import Cluster
    from qwenkit.inference.client import Server
    from qwenkit.settings import Settings
    from qwenkit.weights.store import BucketWeights


class Facts:
    """Facts read from the target when a grader asks for them.

    ``answer`` is what the learner answered, None if nothing; ``passed`` names the exercises that
    they have passed on this target. Each method raises the ``QwenkitError`` that says why the
    target cannot be read.
    """

    def __init__(self, settings: Settings | None = None, answer: object = None) -> None:
        self._settings, self.answer = settings, answer
        self.passed: Collection[str] = ()

    @property
    def settings(self) -> Settings:
        """The parameters of the target."""
        assert self._settings is not None, "an exercise about a target needs one"
        return self._settings

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
        """Return one object of the namespace, or of the cluster; None if it is not there."""
        return self._cluster.find(kind, name)

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Obj]:
        """Return the objects of a kind in the namespace, or in the cluster."""
        return self._cluster.list(kind, labels=labels)

    def objects(self, prefix: str | None = None) -> dict[str, int]:
        """Return key → size in bytes of the bucket's objects whose key starts with ``prefix``.

        Without it, of those in the folder of the weights.
        """
        from qwenkit.weights.oss.bucket import list_objects

        start = f"{self.settings.prefix}/" if prefix is None else prefix
        return {one.key: one.size for one in list_objects(self._weights.bucket, start)}

    def get(self, path: str) -> str:
        """Return a page of the served model, such as ``/v1/models`` or ``/metrics``."""
        return self._server.get(path)

    def close(self) -> None:
        """Close the connections that were opened."""
        for name in ("_cluster", "_server"):
            if opened := vars(self).pop(name, None):
                opened.close()
