"""Which files of a source are uploaded: globs to include and to exclude."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from qwenkit.errors import InvalidValue
from qwenkit.weights.hub.listing import Listing


@dataclass(frozen=True)
class Selection:
    """Globs for paths relative to the source, in ``fnmatch``'s syntax, case-sensitive.

    ``*`` matches ``/`` too. A file is taken if any ``include`` matches it (none given: every
    file) and no ``exclude`` does.

    Raises:
        InvalidValue: a glob that no relative path can match.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            for glob in getattr(self, name):
                if not glob or glob.startswith(("/", "./", "../")):
                    raise InvalidValue(
                        name, glob, "is matched against paths relative to the source, such as a/b"
                    )

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    def __str__(self) -> str:
        return " ".join(f"{flag}={shlex.quote(glob)}" for flag, glob in self._pairs())

    def flags(self) -> list[str]:
        """Return the arguments of ``qwenkit upload`` for this selection."""
        return [f"{flag}={glob}" for flag, glob in self._pairs()]

    def _pairs(self) -> list[tuple[str, str]]:
        given = (("--include", self.include), ("--exclude", self.exclude))
        return [(flag, glob) for flag, globs in given for glob in globs]

    def takes(self, path: str) -> bool:
        """Return whether a file is selected."""
        wanted = not self.include or any(fnmatchcase(path, glob) for glob in self.include)
        return wanted and not any(fnmatchcase(path, glob) for glob in self.exclude)

    def of(self, listing: Listing) -> Listing:
        """Return the listing of the selected files; the revision stays the source's.

        Raises:
            InvalidValue: an ``include`` matches nothing, or nothing is left.
        """
        for glob in self.include:
            if not any(fnmatchcase(file.path, glob) for file in listing.files):
                raise InvalidValue(
                    "include", glob, f"matches none of the {len(listing.files)} files"
                )
        files = tuple(file for file in listing.files if self.takes(file.path))
        if listing.files and not files:
            raise InvalidValue("exclude", ", ".join(self.exclude), "leaves no file")
        return replace(listing, files=files)


EVERYTHING = Selection()
