"""What all objects of one upload share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import oss2

from qwenkit.weights.checkpoint import Checkpoints, Saver
from qwenkit.weights.hub import RemoteFile, Repository
from qwenkit.weights.manifest import StoredFile
from qwenkit.weights.oss_errors import ask
from qwenkit.weights.parts import Buffers
from qwenkit.weights.progress import Meter
from qwenkit.weights.retry import Backoff, Result, Stop
from qwenkit.weights.source_stream import SourceStream


@dataclass(frozen=True)
class Lane:
    """The tools and the knowledge of one upload."""

    bucket: oss2.Bucket
    repository: Repository
    prefix: str
    run: str
    replace: bool
    part_size: int
    backoff: Backoff
    stop: Stop
    meter: Meter
    buffers: Buffers
    senders: ThreadPoolExecutor
    checkpoints: Checkpoints
    saver: Saver
    present: Mapping[str, int]  # sizes of the objects below the prefix, by key
    uploads: Mapping[str, list[str]]  # unfinished multipart uploads, by key
    ours: Mapping[str, StoredFile]  # what our manifest says lies there, by key

    def ask(self, what: str, action: Callable[[], Result]) -> Result:
        """Send a request with this upload's patience."""
        return ask(
            self.bucket,
            what,
            action,
            backoff=self.backoff,
            stop=self.stop,
            on_retry=self.meter.retry,
        )

    def stream(self, file: RemoteFile) -> SourceStream:
        """Open a file of the source."""
        return SourceStream(
            self.repository,
            file,
            backoff=self.backoff,
            stop=self.stop,
            on_retry=self.meter.retry,
        )
