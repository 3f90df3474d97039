"""Write a folder from which somebody else can see what went wrong, without secrets.

What is in it: README.txt, to be read first; the bundle of ``bundle.py`` (objects and logs);
``explanation.json``; and what the caller adds, such as parameters and rendered YAML.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.bundle import OBJECTS, write_bundle
from qwenkit.cluster.diagnosis.explain import diagnose
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.gathering import Evidence, gather
from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.errors.scrubbing import scrub
from qwenkit.private_files import write_private

README = "README.txt"
_MOST_EVENTS = 300


@dataclass(frozen=True)
class Written:
    """A folder of evidence: the verdict, how much is in it, and what could not be read."""

    folder: str
    explanation: Explanation
    objects: int
    logs: int
    unread: tuple[str, ...]

    def __str__(self) -> str:
        unread = [f"could not be read: {line}" for line in self.unread]
        where = f"{self.folder}: {self.objects} objects, {self.logs} logs; read {README} first"
        return "\n".join([str(self.explanation), "", where, *unread])


def write_evidence(
    folder: Path,
    connect: Callable[[], Cluster],
    service: str,
    files: Mapping[str, str],
    *,
    prompts: bool = False,
) -> Written:
    """Write all that can be read of a Service, and ``files`` (name to text).

    Raises:
        InvalidValue: the folder is not empty, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise InvalidValue("DIR", str(folder), "must be new or empty: nothing is overwritten")
    about = ["cluster: not reached"]
    try:
        with closing(connect()) as cluster:
            found = gather(cluster, service, prompts=prompts)
            version = cluster.version().get("gitVersion")
            about = [f"cluster: {cluster!r} at {cluster.address}, {version}, run {cluster.run!r}"]
    except QwenkitError as error:
        found = Evidence(service, unread=[f"the cluster: {error}"])
    verdict = _verdict(found)
    try:
        write_bundle(folder, found.objects, found.logs)
        said = json.dumps(verdict.to_dict(), ensure_ascii=False, indent=1) + "\n"
        readme = _readme([*about, "", str(verdict)], found)
        for name, text in {README: readme, "explanation.json": said, **files}.items():
            write_private(folder / name, scrub(text))
    except OSError as error:
        raise InvalidValue("DIR", str(folder), f"must be writable: {error}") from None
    return Written(str(folder), verdict, len(found.objects), len(found.logs), tuple(found.unread))


def _verdict(found: Evidence) -> Explanation:
    if found.objects:
        return diagnose(found.snapshot())
    return Explanation("unknown", "nothing could be read of the cluster", permanent=False)


def _readme(head: list[str], found: Evidence) -> str:
    files = f"{OBJECTS}: {len(found.objects)} objects; logs/: {len(found.logs)} logs"
    again = f"qwenkit explain {found.service} --from DIR   explains it again"
    unread = [f"could not be read: {line}" for line in found.unread]
    events = found.event_lines()[-_MOST_EVENTS:]
    return "\n".join([*head, "", files, again, *unread, "", "events:", *events, ""])
