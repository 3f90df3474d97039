"""The reports of an upload and of a verification: fields for programs, lines for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from qwenkit.language import Shown
from qwenkit.weights.progress import format_bytes

Action = Literal["uploaded", "resumed", "skipped"]
RESUMES = "what arrived is kept: repeat the same upload and it resumes"
_PICKLE = re.compile(r"(?i).*\.(bin|pt|pth|pkl|pickle|ckpt|joblib)")
_SHOWN = 10  # problems and unlisted objects that are shown one by one


@dataclass(frozen=True)
class FileReport:
    """The upload of one file. A skipped one was already in the bucket."""

    key: str
    size: int
    sha256: str
    crc64: int
    action: Action


@dataclass(frozen=True, repr=False)
class UploadReport(Shown):
    """A complete upload. ``bytes_skipped`` were already in the bucket.

    ``bytes_sent`` counts the bytes that arrived: failed requests do not count, a file that had
    to be sent again counts twice.
    """

    url: str
    source: str
    revision: str
    prefix: str
    files: tuple[FileReport, ...]
    bytes_sent: int
    bytes_skipped: int
    seconds: float
    retries: int
    selection: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        actions = Counter(file.action for file in self.files)
        took = f"sent {format_bytes(self.bytes_sent)} in {self.seconds:.1f} s"
        if self.bytes_sent and self.seconds > 0:
            took += f", {format_bytes(self.bytes_sent / self.seconds)}/s"
        lines = [
            f"{self.url} is complete",
            f"  {self.source}, revision {self.revision[:12]} {self.selection}".rstrip(),
            f"  {plural(len(self.files), 'file')}, "
            f"{format_bytes(sum(file.size for file in self.files))}: "
            + ", ".join(f"{actions[name]} {name}" for name in ("uploaded", "resumed", "skipped")),
            f"  {took}; {format_bytes(self.bytes_skipped)} were already there",
            f"  {plural(self.retries, 'retry', 'retries')}",
            *_listed("", self.notes),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class FileProblem:
    """What is wrong with one file."""

    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file} {self.message}"


@dataclass(frozen=True)
class VerifyReport:
    """A prefix compared with its manifest, which does not list the ``extra`` objects.

    ``notes`` name pickles and a signature.
    ``stored`` has the name and size of each file of a volume, which only its Job can list.
    """

    url: str
    prefix: str
    source: str
    revision: str
    files: int
    bytes: int
    problems: tuple[FileProblem, ...]
    extra: tuple[str, ...]
    selection: str = ""
    stored: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every file of the manifest is present and complete."""
        return not self.problems

    def __str__(self) -> str:
        found = "is whole" if self.ok else f"has {plural(len(self.problems), 'problem')}"
        return "\n".join(
            [
                f"{self.url} {found}",
                f"  {self.source}, revision {self.revision[:12]} {self.selection}".rstrip(),
                f"  {plural(self.files, 'file')}, {format_bytes(self.bytes)}",
                *_listed("", self.problems),
                *_listed("not listed: ", self.extra),
                *_listed("", self.notes),
            ]
        )


def pickles(paths: Iterable[str]) -> tuple[str, ...]:
    """Return a note that names the pickles among files, by their names; nothing if none is one."""
    found = sorted(filter(_PICKLE.fullmatch, paths))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    why = "may run code when they are loaded, as safetensors cannot"
    return (f"pickles, which {why}: {', '.join(found[:_SHOWN])}{more}",) if found else ()


def plural(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _listed(label: str, items: tuple[object, ...]) -> list[str]:
    lines = [f"  {label}{item}" for item in items[:_SHOWN]]
    return [*lines, f"  and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else lines
