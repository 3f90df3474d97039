"""Chapter 01: what an upload sends again, and what makes a folder of the bucket complete."""

from __future__ import annotations

import re

from qwenkit.exercises.exercise import TODO, Verdict, exercise, judged
from qwenkit.exercises.facts import Facts

_MANIFEST, _WEIGHTS = "qwenkit.json", ".safetensors"
_POINTER = 1024  # bytes; a Git LFS pointer has about 130


def _folder(facts: Facts, name: str = "") -> dict[str, int]:
    """Return the files below a folder of the prefix: path → size; a console makes folders, too."""
    found = facts.objects(start := f"{facts.settings.prefix}/{name}").items()
    return {key.removeprefix(start): size for key, size in found if not key.endswith("/")}


@exercise("01.1")
def one_file_is_sent_again(facts: Facts) -> Verdict:
    """The lost one, and it is there again."""
    if (given := facts.answer) is None:
        return TODO
    files = {path: size for path, size in _folder(facts).items() if "/" not in path}
    weights = {path: size for path, size in files.items() if path.endswith(_WEIGHTS)}
    counts = [int(said[1]) for path in weights if (said := re.search(r"-of-(\d+)", path))]
    every = len(files.keys() - {_MANIFEST})
    seen = {
        "no-number": type(given) is not int,
        "nothing": given == 0,
        "manifest-counted": given == 2,
        "the-rest": given == every - 1 != 1,
        "everything": given != 1 and given in (every, every + 1),
        "other": given != 1,
        "no-manifest": _MANIFEST not in files,
        "still-missing": len(weights) < max(counts, default=1),
        "pointer": min(weights.values(), default=0) < _POINTER,
    }
    return judged(seen, answer=given)


@exercise("01.2")
def the_tokenizer_alone(facts: Facts) -> Verdict:
    """A second folder with a manifest, of chosen files."""
    found = _folder(facts, "tokenizer/")
    wanted = {path for path in _folder(facts) if re.fullmatch("tokenizer[^/]*", path)}
    seen = {
        "outside": not found,
        "nested": any("/" in path for path in found),
        "weights": any(path.endswith(_WEIGHTS) for path in found),
        "half": wanted - found.keys(),
        "no-manifest": _MANIFEST not in found,
        "more": found.keys() - wanted - {_MANIFEST},
    }
    return judged(seen) if found or facts.objects("tokenizer") else TODO


@exercise("01.3")
def a_folder_named_by_its_revision(facts: Facts) -> Verdict:
    """The full commit: a name such as master moves."""
    found = _folder(facts, "licence/")
    revision, _, path = min(found, default="").partition("/")
    files = {key.removeprefix(f"{revision}/") for key in found if key.startswith(revision)}
    seen = {
        "outside": not found,
        "no-revision": not path,
        "short": re.fullmatch("[0-9a-f]{7,39}", revision),
        "moves": not re.fullmatch("[0-9a-f]{40,}", revision),
        "twice": path.startswith(revision),
        "more": files - {"LICENSE", _MANIFEST},
        "no-manifest": _MANIFEST not in files,
    }
    return judged(seen, found=revision) if found or facts.objects("licence") else TODO
