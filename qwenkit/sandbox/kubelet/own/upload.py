"""What may ``qwenkit upload`` and ``qwenkit verify`` of a pod be asked?

A source that is a model of the sandbox's hub or a folder of a mounted volume, a target in the
sandbox's OSS or in a volume that may be written, and the variables; see ``program.py``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.kubelet import child
from qwenkit.sandbox.kubelet.local_folder import LocalFolder
from qwenkit.sandbox.kubelet.own.program import LONGEST, OwnCommand, variables
from qwenkit.sandbox.kubelet.volumes import Mount, containing

_SWITCHES = {"--replace", "--versioned", "--json", "--progress"}
_GLOBS = {"--include", "--exclude"}
_HUB = re.compile(r"(modelscope|hf):\w[\w.-]*/\w[\w.-]*(@\w[\w./-]*)?", re.ASCII)
_TARGET = re.compile(r"oss://[a-z0-9-]+/.*|/.+")
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
    "QWENKIT_OSS_CNAME",
    "QWENKIT_OSS_REGION",
    "QWENKIT_OSS_SIGNATURE",
    "QWENKIT_RUN",
    "QWENKIT_RUN_ID",
    "QWENKIT_TIMEOUT_S",
    "QWENKIT_UPLOAD_TIMEOUT_S",
)
_FOLDER = "volume"


async def upload(
    args: Sequence[str],
    env: Mapping[str, str],
    mounts: Sequence[Mount],
    programs: child.Programs,
    home: Path,
) -> OwnCommand:
    """Return the program's arguments and variables.

    Args:
        args: the arguments after ``qwenkit upload``.
        env: the container's environment.
        mounts: the container's volumes.
        programs: says where the sandbox's own servers are.
        home: gets a folder of a volume that is the source.

    Raises:
        InvalidValue: a pod may not ask this.
    """
    source, target, *rest = _arguments(args)
    passed = dict(_environment(env, source, programs))
    real = str(_local(target, mounts, written=True)) if target.startswith("/") else ""
    if source.startswith("/"):
        source = await _copied(source, mounts, home)
    return OwnCommand(["upload", source, real or target, *rest], passed, real, target)


def verify(args: Sequence[str], mounts: Sequence[Mount]) -> OwnCommand:
    """Return the arguments of ``qwenkit verify``.

    Raises:
        InvalidValue: a pod may not ask this.
    """
    folder = next(iter(args), "")
    if not folder.startswith("/") or not set(args[1:]) <= {"--json", "--exit-zero"}:
        rule = "must be a folder of a mounted volume, then --json or --exit-zero"
        raise InvalidValue("arguments", list(args)[:3], rule)
    real = str(_local(folder, mounts))
    return OwnCommand(["verify", real, *args[1:]], {}, real, folder)


def _local(folder: str, mounts: Sequence[Mount], *, written: bool = False) -> Path:
    """Return where a folder of the container's volumes is on this machine.

    Raises:
        InvalidValue: it is in no volume that is a folder here, or in one that is only read.
    """
    mount = containing(mounts, folder)
    if mount is None or ".." in folder.split("/") or not isinstance(mount.folder, LocalFolder):
        held = ", ".join(one.path for one in mounts) or "none"
        rule = f"must be in a mounted volume of a claim or a NAS; there is {held}"
        raise InvalidValue("folder", folder[:LONGEST], rule)
    if written and (mount.read_only or mount.folder.read_only):
        raise InvalidValue("target", folder, "is in a volume that is mounted read-only")
    return mount.folder.path(folder[len(mount.path) :].strip("/"))


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
        if len(word) > LONGEST or not word.isprintable():
            rule = f"must be printable and at most {LONGEST} characters long"
            raise InvalidValue("argument", word[:80], rule)
    if len(places) != 2:
        raise InvalidValue("arguments", places, "must be two: a source and a target")
    source, target = places
    if not _HUB.fullmatch(source) and not source.startswith("/"):
        rule = "must be modelscope:owner/name[@revision], hf:owner/name[@revision] or a folder"
        raise InvalidValue("source", source, f"{rule} of a mounted volume")
    if not _TARGET.fullmatch(target):
        raise InvalidValue("target", target, "must be oss://bucket/prefix or a volume's folder")
    return [source, target, *options]


def _environment(
    env: Mapping[str, str], source: str, programs: child.Programs
) -> Iterator[tuple[str, str]]:
    """Yield the variables that the upload gets; the addresses are the sandbox's own."""
    yield from variables(env, _VARIABLES)
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
