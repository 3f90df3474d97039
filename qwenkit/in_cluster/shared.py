"""Weights that an administrator shares by a claim: read-only, and known by the list they leave."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import CONFIG_MAP
from qwenkit.errors import NotFound
from qwenkit.in_cluster.volume import VolumeWeights
from qwenkit.settings import SHARED_WEIGHTS, Settings
from qwenkit.weights.hub.listing import MANIFEST_NAME
from qwenkit.weights.oss.bucket import StoredObject
from qwenkit.weights.report import FileReport, UploadReport, VerifyReport
from qwenkit.weights.store import PrefixContents

LIST = "manifest.json"
_NOTE = "an administrator uploaded and checked them; they are shared, and read-only here"


class SharedWeights(VolumeWeights):
    """A folder in a claim of an administrator's: nothing is uploaded, read or deleted from here."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._found: dict[str, Any] = {}

    def check(self) -> str:
        """Say who fills the volume."""
        return f"none needed: an administrator filled {self.url}"

    def upload(self, **_options: object) -> UploadReport:
        """Send nothing; report the files that are shared, as the administrator's upload left them.

        Raises:
            NotFound: there is no list of them here.
        """
        found, sizes = self._manifest(), self._sizes()
        files = tuple(
            FileReport(f"{self.prefix}/{path}", size, one["sha256"], one["crc64"], "skipped")
            for one, (path, size) in zip(found["files"], sizes.items(), strict=True)
        )
        whose = (self.url, found["source"], found["revision"], self.prefix)
        return UploadReport(*whose, files, 0, sum(sizes.values()), 0.001, 0, notes=(_NOTE,))

    def verify(self) -> VerifyReport:
        """Return what the administrator's upload proved; only a pod could read the files again.

        Raises:
            NotFound: there is no list of them here.
        """
        found, sizes = self._manifest(), self._sizes()
        whose = (self.url, self.prefix, found["source"], found["revision"])
        return VerifyReport(*whose, len(sizes), sum(sizes.values()), (), (), notes=(_NOTE,))

    def objects(self) -> list[StoredObject]:
        """List the files, and the manifest that lists them."""
        sizes = self._sizes() | {MANIFEST_NAME: len(json.dumps(self._manifest()))}
        return [StoredObject(f"{self.prefix}/{path}", sizes[path], "", 0) for path in sorted(sizes)]

    def kept(self) -> PrefixContents:
        """Say what is shared."""
        try:
            sizes = self._sizes()
        except NotFound:
            return PrefixContents(self.url, 0, 0, 0, 0, known=False)
        return PrefixContents(self.url, len(sizes), sum(sizes.values()), 0, 0)

    def _sizes(self) -> dict[str, int]:
        return {one["path"]: one["size"] for one in self._manifest()["files"]}

    def _manifest(self) -> dict[str, Any]:
        if not self._found:
            with closing(Cluster.connect(self._settings)) as cluster:
                config = cluster.find(CONFIG_MAP, SHARED_WEIGHTS) or {}
            try:
                self._found = json.loads((config.get("data") or {})[LIST])
            except (KeyError, ValueError):
                why = f"configmap {SHARED_WEIGHTS} would hold the list of its files"
                fix = "go on with chapter 02; or ask the administrator: qwenkit workshop create"
                raise NotFound(f"what {self.url} holds is not known here", why, fix) from None
        return self._found
