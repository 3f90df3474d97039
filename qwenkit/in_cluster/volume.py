"""Weights in a volume of the cluster, which Jobs write and check."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from functools import cached_property

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.deploy import apply_all
from qwenkit.cluster.kinds import PVC, Obj, annotations_of
from qwenkit.cluster.ownership import holds_weights, is_ours, require_ours
from qwenkit.cluster.removal import PATIENT, Removal
from qwenkit.errors import NotFound
from qwenkit.in_cluster import upload as jobs
from qwenkit.in_cluster.manifest import require_image
from qwenkit.manifests.storage import storage
from qwenkit.parameters.layers import run_id
from qwenkit.settings import WEIGHTS, Settings
from qwenkit.weights.hub.listing import Repository
from qwenkit.weights.oss.bucket import StoredObject
from qwenkit.weights.progress import Progress
from qwenkit.weights.report import UploadReport, VerifyReport
from qwenkit.weights.selection import EVERYTHING, Selection
from qwenkit.weights.store import PrefixContents, source_of

_HELD = f"{WEIGHTS}-held"


class VolumeWeights:
    """A folder of a volume. Only pods see it: each question to it is a Job.

    What an upload put there is noted on the claim, so that ``kept`` needs no Job.
    """

    def __init__(self, settings: Settings) -> None:
        self.prefix, self.url = settings.prefix, settings.weights_url
        self._settings, self._run_id = settings, run_id()
        self._verified: VerifyReport | None = None

    @cached_property
    def source(self) -> Repository:
        """The model source; see ``source_of``."""
        return source_of(self._settings)

    def check(self) -> str:
        """Say how the volume is filled.

        Raises:
            SettingsError: the Job has no image, the NAS no address, or the source is a folder here.
        """
        jobs.require_hub(self._settings)
        self._settings.require(*["nas_server"] * (self._settings.storage == "nas"))
        return f"none needed: a Job of {require_image(self._settings)} fills {self.url}"

    def upload(
        self,
        *,
        replace: bool = False,
        versioned: bool = False,
        selection: Selection = EVERYTHING,
        progress: Callable[[Progress], None] | None = None,
    ) -> UploadReport:
        """Make the volume if it is not there, and fill it by a Job; see ``in_cluster.upload``."""
        self.check()
        self._verified = None
        flags = ["--replace"] * replace + ["--versioned"] * versioned + selection.flags()
        with closing(Cluster.connect(self._settings)) as cluster:
            apply_all(cluster, storage(self._settings))
            held = _held(cluster.get(PVC, self._settings.volume)) or {"run_id": self._run_id}
            folders = held.setdefault("folders", {})
            if replace:  # until it has ended, the folder holds neither model
                folders.pop(self.prefix, None)
            self._note(cluster, held)
            show = progress or (lambda _progress: None)
            report = jobs.upload(cluster, self._settings, flags, progress=show)
            size = sum(file.size for file in report.files)
            folders[report.prefix] = {"files": len(report.files), "bytes": size}
            self._note(cluster, held)
        return report

    def require_filled(self) -> None:
        """Refuse a claim from which no server can load the model yet.

        Raises:
            Conflict: the claim is not this run's.
            NotFound: no upload of the model to it has ended.
        """
        claim = self._claim()
        if claim:
            require_ours(claim, run=self._settings.run)
        if self._settings.storage == "pvc" and self.prefix not in _folders(claim):
            why = "no upload to it has ended" if claim else "the claim does not exist"
            fix = f"qwenkit upload {self._settings.model_source} {self.url}"
            raise NotFound(f"{self.url} holds no model", why, fix)

    def verify(self) -> VerifyReport:
        """Read every file of the folder by a Job, and compare it with the manifest."""
        with closing(Cluster.connect(self._settings)) as cluster:
            self._verified = jobs.verify(cluster, self._settings)
        return self._verified

    def objects(self) -> list[StoredObject]:
        """List the files of the folder as the last verification found them."""
        found = self._verified or self.verify()
        return [StoredObject(key, size, "", 0) for key, size in found.stored]

    def kept(self) -> PrefixContents:
        """Say what the last upload left in the claim; of other files only a Job would know."""
        claim = self._claim()
        found = _folders(claim).get(self.prefix, {})
        known = bool(found) or self._settings.storage == "pvc"
        return PrefixContents(self.url, found.get("files", 0), found.get("bytes", 0), 0, 0, known)

    @property
    def scope(self) -> str:
        """What teardown deletes, in words."""
        if self._settings.storage == "nas":
            return f"files, since qwenkit deletes none of a NAS: {self.url} stays"
        return "files" + (" of a claim that this run made" if self._run_id else "")

    def abort_uploads(self) -> int:
        """There are none: a Job that is removed leaves nothing that is billed."""
        return 0

    def delete_objects(self) -> int:
        """Delete the claim with all that is in it, in a run only its own; return how many files."""
        if not self._deletable(claim := self._claim()):
            return 0
        with closing(Cluster.connect(self._settings)) as cluster:
            timeout_s = self._settings.seconds("teardown")
            removal = Removal(cluster, timeout_s, PATIENT, lambda _step: None, weights=True)
            removal.remove(PVC, self._settings.volume)
        return sum(folder["files"] for folder in _folders(claim).values())

    def left(self, *, delete_weights: bool) -> tuple[list[str], list[str]]:
        """Name the claim if it should be gone, and what nobody here can delete."""
        if self._settings.storage == "nas":
            place = f"{self._settings.nas_server}:/{self.prefix}"
            return [], [f"files on the NAS, {place}: qwenkit deletes none there"]
        lost = delete_weights and self._deletable(self._claim())
        return [f"pvc/{self._settings.volume} with the weights"] * bool(lost), []

    def _deletable(self, claim: Obj) -> bool:
        ours = holds_weights(claim) and is_ours(claim, run=self._settings.run)
        return ours and self._run_id in ("", _held(claim).get("run_id"))

    def _claim(self) -> Obj:
        with closing(Cluster.connect(self._settings)) as cluster:
            return cluster.find(PVC, self._settings.volume) or {}

    def _note(self, cluster: Cluster, held: Obj) -> None:
        note = {"metadata": {"annotations": {_HELD: json.dumps(held)}}}
        cluster.patch(PVC, self._settings.volume, note)


def _held(claim: Obj) -> Obj:
    """Return what is noted on a claim: the run that made it, and the folders that are complete."""
    try:
        found = json.loads(annotations_of(claim).get(_HELD, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _folders(claim: Obj) -> Obj:
    return dict(_held(claim).get("folders", {}))
