"""Build the wheel and the sdist of a commit, the same bytes in every folder, and their sha256.

    python tools/dist.py dist [MORE …]     (make dist)

The folder gets the wheel, the sdist, copies of MORE, and ``SHA256SUMS`` of them all. The sources
are the commit's (``git archive``), so is the time of every file, and its mode is one of two:
neither checkout nor umask, user or clock shows in what is built. The Python that runs this builds,
with the setuptools that it has.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
_BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # which setuptools changes
build_meta.build_wheel(folder)
build_meta.build_sdist(folder)
"""


def git(*words: str) -> bytes:
    """Return what a git command prints."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout


def build(folder: Path) -> None:
    """Write wheel and sdist of HEAD into an empty folder."""
    time = int(git("log", "-1", "--format=%ct", "HEAD"))
    with TemporaryDirectory() as name:
        packed = git("-c", "tar.umask=0022", "archive", "--format=tar", "HEAD")
        subprocess.run(["tar", "-xp"], input=packed, cwd=name, check=True)
        there = os.environ | {"SOURCE_DATE_EPOCH": str(time)}
        subprocess.run(
            [sys.executable, "-c", _BUILD, str(folder.absolute())],
            cwd=name,
            env=there,
            check=True,
            stdout=subprocess.DEVNULL,
            umask=0o022,
        )
    (sdist,) = folder.glob("*.tar.gz")
    pack_again(sdist, time)


def pack_again(sdist: Path, time: int) -> None:
    """Write an sdist anew: its files in order, without whose and when they were."""
    raw = io.BytesIO()
    with tarfile.open(sdist) as old, tarfile.open(fileobj=raw, mode="w") as new:
        for member in sorted((m for m in old if not m.isdir()), key=lambda m: m.name):
            plain = tarfile.TarInfo(member.name)
            plain.size, plain.mtime = member.size, time
            plain.mode = 0o755 if member.mode & 0o100 else 0o644
            new.addfile(plain, old.extractfile(member))
    with sdist.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=time) as packed:
        packed.write(raw.getvalue())


def main() -> int:
    """Build, copy, and write the sums."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("more", type=Path, nargs="*", help="files to put beside them")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        build(Path(name))
        found = [*Path(name).iterdir(), *given.more]
        files = [Path(shutil.copy(path, given.folder)) for path in found]
    sums = "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files)
    )
    (given.folder / "SHA256SUMS").write_text(sums)
    print(sums, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
