"""Which images, actions and packages are not pinned to their content, and why?

``make pins``: a table of every container image and CI action that the project names, and of the
packages of the hashed lock. A tag can be moved to other content, a digest cannot.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from qwenkit import Settings

ROOT = Path(__file__).parents[1]
KIND = ROOT / "tools/kind/versions.env"
DEVCONTAINER = ROOT / ".devcontainer/devcontainer.json"
LOCKS = ("constraints-build.txt", "constraints-hashed.txt")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_COMMIT = re.compile(r"@[0-9a-f]{40}$")
_ARGUMENT = re.compile(r"^(?:ARG \w+=|FROM )(?!\$)(\S+)", re.MULTILINE)
_IMAGE = re.compile(r"""^\s*(?:- )?image: ["']?([^\s"'$]+)""", re.MULTILINE)
_ACTION = re.compile(r"^\s*(?:- )?uses: (\S+)", re.MULTILINE)
_PACKAGE = re.compile(r"^([\w.-]+==[^\s;]+)((?:.*\\\n)*.*)", re.MULTILINE)
_LOOK_UP = "docker buildx imagetools inspect {} prints its digest"


@dataclass(frozen=True)
class Pin:
    """One thing that is fetched from elsewhere; ``why`` it is not pinned, empty if it is."""

    where: str
    name: str
    why: str = ""


def pins() -> list[Pin]:
    """Return all that the project names, in the order of the files."""
    return [*_dockerfile(), *_images(), *_actions(), *_packages()]


def _dockerfile() -> Iterator[Pin]:
    for path in sorted(ROOT.glob("Dockerfile*")):
        for name in _ARGUMENT.findall(path.read_text("utf-8")):
            why = "a tag, so that each build has Debian's fixes; for a release: --build-arg PYTHON="
            yield _image(path.name, name, f"{why}{name}@sha256:…")
    container = json.loads(DEVCONTAINER.read_text("utf-8"))
    where = str(DEVCONTAINER.relative_to(ROOT))
    yield _image(where, container["image"], "a tag, so that each codespace has Debian's fixes")


def _images() -> Iterator[Pin]:
    yield _image(
        "qwenkit/settings.py",
        Settings.model_fields["image"].default,
        "the documentation names this tag; --set image=…@sha256:… pins it",
    )
    for folder in ("notebooks/params", "qwenkit/manifests/templates"):
        for path in sorted((ROOT / folder).glob("*.yaml")):
            for name in _IMAGE.findall(path.read_text("utf-8")):
                yield _image(str(path.relative_to(ROOT)), name, "a tag")
    for name, value in re.findall(r"^(\w+)=(.*)$", KIND.read_text("utf-8"), re.MULTILINE):
        where = str(KIND.relative_to(ROOT))
        if name.endswith("_IMAGE"):
            yield _image(where, value, "a tag")
        elif "_SHA256" in name:
            yield Pin(where, name, "" if value else "its sum is not published: up.sh prints it")


def _image(where: str, name: str, why: str) -> Pin:
    pinned = _DIGEST.search(name)
    return Pin(where, name, "" if pinned else f"{why}; {_LOOK_UP.format(name)}")


def _actions() -> Iterator[Pin]:
    for path in sorted((ROOT / ".github").rglob("*.y*ml")):
        for name in _ACTION.findall(path.read_text("utf-8")):
            why = "" if _COMMIT.search(name) or name.startswith("./") else "not a commit's hash"
            yield Pin(str(path.relative_to(ROOT)), name, why)


def _packages() -> Iterator[Pin]:
    for lock in LOCKS:
        for name, rest in _PACKAGE.findall((ROOT / lock).read_text("utf-8")):
            yield Pin(lock, name, "" if "--hash=sha256:" in rest else "no hash: make lock")


def main(words: list[str] | None = None) -> int:
    """Print what is not pinned, and how many things are; exit 1 if a package is not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print all of them as JSON")
    found = pins()
    loose = [pin for pin in found if pin.why]
    if parser.parse_args(words).json:
        print(json.dumps([asdict(pin) for pin in found], indent=1))
    else:
        for pin in loose:
            print(f"{pin.where}: {pin.name}\n    not pinned: {pin.why}")
        print(f"{len(found) - len(loose)} of {len(found)} pinned by digest")
    return int(any(pin.where in LOCKS for pin in loose))


if __name__ == "__main__":
    sys.exit(main())
