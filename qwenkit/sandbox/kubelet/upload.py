"""How does a pod run ``qwenkit upload``? Really, in the transfer image only.

The image stands for the project itself: the program is the one that runs the sandbox. Whoever may
apply a YAML decides its arguments and its environment, so only what is listed here reaches it:
a source that is a model of the sandbox's hub or a folder of a mounted volume, a target in the
sandbox's OSS, and the variables of the upload.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.sandbox.kubelet import child
from qwenkit.sandbox.kubelet.images import TRANSFER_IMAGE
from qwenkit.sandbox.kubelet.volumes import Mount, containing

_NOT_FOUND = 127
_SWITCHES = {"--replace", "--versioned", "--json", "--progress"}
_GLOBS = {"--include", "--exclude"}
_HUB = re.compile(r"(modelscope|hf):\w[\w.-]*/\w[\w.-]*(@\w[\w./-]*)?", re.ASCII)
_TARGET = re.compile(r"oss://[a-z0-9-]+/.*")
_OWN = re.compile(r"(?:http://)?(?:127\.0\.0\.1|localhost):(\d{1,5})/?", re.ASCII)
_ENDPOINTS = {
    "oss": ("QWENKIT_OSS_ENDPOINT", "OSS_ENDPOINT"),
    "modelscope": ("QWENKIT_MODELSCOPE_ENDPOINT",),
    "hf": ("QWENKIT_HF_ENDPOINT", "HF_ENDPOINT"),
}
_VARIABLES = (
    "HF_TOKEN",
    "MODELSCOPE_API_TOKEN",
    "OSS_ACCESS_KEY_ID",
    "OSS_ACCESS_KEY_SECRET",
    "OSS_REGION",
    "OSS_SESSION_TOKEN",
    "QWENKIT_OSS_REGION",
    "QWENKIT_RUN",
    "QWENKIT_RUN_ID",
    "QWENKIT_TIMEOUT_S",
    "QWENKIT_UPLOAD_TIMEOUT_S",
)
_LONGEST = 4096
# Files are checkpoints; the pod's own limits are those of the Job's template.
_LIMITS = {"FSIZE": 64 * 2**20, "AS": 4 * 2**30}
_PACKAGE = Path(__file__).parents[2]
# An isolated Python has neither the working directory nor PYTHONPATH to find a source checkout.
_RUN = (
    "import os, sys; sys.argv.pop(0); root = os.path.dirname(sys.argv[0]); "
    "root in sys.path or sys.path.insert(0, root); "
    "from qwenkit.cli.main import main; sys.exit(main())"
)
_FOLDER = "volume"


async def upload(
    args: Sequence[str],
    *,
    image: str,
    env: Mapping[str, str],
    mounts: Sequence[Mount],
    programs: child.Programs | None,
    log: Callable[[str], None],
) -> int:
    """Run it with a private home; return its exit status, 2 for what a pod may not ask of it.

    Args:
        args: the arguments after ``qwenkit upload``.
        image: the container's image.
        env: the container's environment.
        mounts: the container's volumes.
        programs: where programs run; None if the node runs none.
        log: gets its lines.
    """
    if image != TRANSFER_IMAGE or programs is None:
        log('exec: "qwenkit": executable file not found in $PATH')
        log(f"sandbox: the node has qwenkit in the image {TRANSFER_IMAGE} only")
        return _NOT_FOUND
    async with programs.turn:
        with programs.private() as home:
            try:
                source, *rest = _arguments(args)
                passed = dict(_environment(env, source, programs))
                if source.startswith("/"):
                    source = await _copied(source, mounts, home)
                argv = [sys.executable, "-I", "-c", _RUN, str(_PACKAGE), "upload", source, *rest]
                whole = passed | child.environment(home)
                async with child.running(
                    argv, env=whole, folder=home, log=log, limits=_LIMITS
                ) as process:
                    return await process.ended()
            except QwenkitError as error:
                # In the upload's own form, which `upload --in-cluster` reads.
                log(json.dumps(error.to_dict(), ensure_ascii=False))
                return 2


def _arguments(args: Sequence[str]) -> list[str]:
    """Return the source, the target and the options, if each is one that a pod may give."""
    options, places = list[str](), list[str]()
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if name in _GLOBS:
            options.append(f"{name}={value if equals else next(words, '')}")
        elif word in _SWITCHES:
            options.append(word)
        elif word.startswith("-"):
            allowed = ", ".join(sorted(_SWITCHES | _GLOBS))
            raise InvalidValue("option", name, f"a pod of the sandbox may give {allowed}")
        else:
            places.append(word)
    for word in (*options, *places):
        if len(word) > _LONGEST or not word.isprintable():
            rule = f"must be printable and at most {_LONGEST} characters long"
            raise InvalidValue("argument", word[:80], rule)
    if len(places) != 2:
        raise InvalidValue("arguments", places, "must be two: a source and a target")
    source, target = places
    if not _HUB.fullmatch(source) and not source.startswith("/"):
        rule = "must be modelscope:owner/name[@revision], hf:owner/name[@revision] or a folder"
        raise InvalidValue("source", source, f"{rule} of a mounted volume")
    if not _TARGET.fullmatch(target):
        raise InvalidValue("target", target, "must be oss://bucket/prefix")
    return [source, target, *options]


def _environment(
    env: Mapping[str, str], source: str, programs: child.Programs
) -> Iterator[tuple[str, str]]:
    """Yield the variables that the upload gets; the addresses are the sandbox's own."""
    for name in _VARIABLES:
        if value := env.get(name, "").strip():
            if len(value) > _LONGEST or not (value.isascii() and value.isprintable()):
                rule = f"must be printable ASCII of at most {_LONGEST} characters"
                raise InvalidValue(name, "(not shown)", rule)
            yield name, value
    for kind in ("oss", source.partition(":")[0]):
        own = programs.oss if kind == "oss" else programs.hub
        names = _ENDPOINTS.get(kind, ())
        given = next(((name, env[name].strip()) for name in names if env.get(name)), None)
        if given and not _is(given[1], own):
            raise InvalidValue(
                *given,
                f"a pod of the sandbox reaches only the sandbox's own {own}",
                'eval "$(qwenkit sandbox env)" sets it',
            )
        # Without an OSS endpoint the upload says so itself.
        if names and (given or kind != "oss"):
            yield names[0], own


def _is(address: str, own: str) -> bool:
    """Return whether an endpoint is this server of the sandbox, by its port on loopback."""
    found = _OWN.fullmatch(address)
    return found is not None and own.rpartition(":")[2] == found[1]


async def _copied(source: str, mounts: Sequence[Mount], home: Path) -> str:
    """Copy a folder of a volume into the program's home; return its name there."""
    mount = containing(mounts, source)
    if mount is None or ".." in source.split("/"):
        held = ", ".join(one.path for one in mounts) or "none"
        raise InvalidValue("source", source, f"must be in a mounted volume; there is {held}")
    inner = posixpath.relpath(source, mount.path).removeprefix(".")
    files = await mount.folder.read(f"{inner}/" if inner else "")
    if not files:
        raise InvalidValue("source", source, "holds no file in its volume")
    await child.write(files, home / _FOLDER)
    return _FOLDER
