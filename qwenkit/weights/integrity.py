"""Whether weights are complete: a source before its upload, a prefix before it is mounted.

A server that starts on half a model fails minutes later with an error about tensors; here every
kind of incomplete set of files is found early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import oss2

from qwenkit.errors import NotFound, QwenkitError, Rejected
from qwenkit.weights.hub.listing import MANIFEST_NAME, Listing, Repository, SourceFile, shown
from qwenkit.weights.hub.source_stream import SourceStream
from qwenkit.weights.oss.bucket import list_objects, object_url
from qwenkit.weights.oss.errors import call_oss, get_if_exists
from qwenkit.weights.oss.manifest import META_SHA256, Manifest, StoredFile, read_manifest
from qwenkit.weights.report import FileProblem, VerifyReport, pickles
from qwenkit.weights.retry import RetryPolicy
from qwenkit.weights.safetensors import HeaderError, read_header
from qwenkit.weights.signature import SIGNATURE, check_signature

_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER_SIZES = range(100, 1024)
_INDEX = re.compile(r".*\.(safetensors|bin)\.index(\.\w+)?\.json")
_INDEX_LIMIT = 16 << 20  # that of a model with 150,000 tensors; a larger one is not compared
_PROBLEMS = 100  # are listed in an error
_NUMBERED = re.compile(r"(.*)-(\d{1,7})-of-(\d{1,7})\.(safetensors|bin|gguf|pt|pth|ckpt)")
_WORKERS = 8
_FETCH_FIX = "fetch the source again in full; for a git clone: git lfs pull"
Read = Callable[[str, int, int], bytes]  # of a file by its path: from a start, so many bytes
_SELECT_FIX = "--include and --exclude leave that file out: take all shards of a model, or none"


def check_listing(repository: Repository, listing: Listing, left_out: Collection[str] = ()) -> None:
    """Refuse a source that is not a complete set of weights, before a byte is sent.

    ``left_out`` are the paths of the files that are not selected, for the message.

    Raises:
        Rejected: names the first file at fault.
    """
    sizes = {file.path: file.size for file in listing.files}
    problems: list[FileProblem] = []
    for file in listing.files:
        if file.size in _POINTER_SIZES and _content(repository, file, len(_POINTER)) == _POINTER:
            problems.append(FileProblem(file.path, "is a Git LFS pointer, not the file itself"))
        if _INDEX.fullmatch(file.path) and file.size <= _INDEX_LIMIT:
            text = _content(repository, file, file.size)
            _, found = _shards(file.path, text, sizes)
            problems += found
    named = {problem.file for problem in problems}
    gaps = (path for path in _gaps(sizes) if path not in named)
    for path in islice(gaps, _PROBLEMS):  # a hub may list shards that count millions
        problems.append(FileProblem(path, "is missing, but other shards count it"))
    selected = any(problem.file in left_out for problem in problems)
    _raise_first(problems, listing.source, _SELECT_FIX if selected else _FETCH_FIX)


def check_tensors(read: Read, files: tuple[StoredFile, ...], where: str) -> None:
    """Refuse stored weights whose safetensors headers and index contradict each other.

    Raises:
        Rejected: names the first file at fault, and ``where``.
    """
    _raise_first(_tensor_problems(read, files), where, _FETCH_FIX)


def verify(bucket: oss2.Bucket, prefix: str, signer: str = "") -> VerifyReport:
    """Compare every object of a prefix with its manifest: size, CRC-64, tensors, index, signature.

    Raises:
        NotFound: no upload completed there, or there is no such bucket.
        Conflict: ``qwenkit.json`` is not ours.
    """
    prefix = prefix.strip("/")
    return compare(
        read_manifest(bucket, prefix),
        object_url(bucket, prefix),
        prefix,
        partial(_object_problem, bucket, prefix),
        stored_bytes(bucket, prefix),
        (one.key.removeprefix(f"{prefix}/") for one in list_objects(bucket, f"{prefix}/")),
        signer,
    )


def require_signed(bucket: oss2.Bucket, prefix: str, signer: str) -> None:
    """Refuse weights that are not those which a signature beside them lists.

    Without one nothing is refused, unless there is a ``signer``; then it must be of that one.

    Raises:
        Rejected: they are others, or not signed.
    """
    where, key = object_url(bucket, prefix), f"{prefix}/{SIGNATURE}"
    once = RetryPolicy(attempts=1)
    try:
        get = partial(bucket.get_object, key)
        found = get_if_exists(bucket, object_url(bucket, key), lambda: get().read(), once)
    except QwenkitError:
        if signer:
            raise
        found = None  # a machine that deploys need not reach the bucket
    manifest = read_manifest(bucket, prefix) if found else None
    if found and manifest:
        files = list_objects(bucket, f"{prefix}/")
        etags = {one.key.removeprefix(f"{prefix}/"): one.etag for one in files}
        sound = {f.path: f.sha256 for f in manifest.files if etags.get(f.path) == f.etag}
        sums = dict.fromkeys(etags, "") | sound
        problems, _ = check_signature(found, sums, manifest.selection, signer)
        _raise_first(problems, where, f"upload them with their own {SIGNATURE}, or without one")
    elif signer:
        why = f"it has no {SIGNATURE}, or no {MANIFEST_NAME} to compare it with"
        fix = f"qwenkit upload the model with its {SIGNATURE}, or leave out signer"
        raise Rejected(f"{where} is not signed", why, fix)


def compare(
    manifest: Manifest | None,
    url: str,
    prefix: str,
    check: Callable[[StoredFile], FileProblem | None],
    read: Read,
    stored: Iterable[str],
    signer: str = "",
) -> VerifyReport:
    """Compare stored files with their manifest; ``check`` judges one, ``stored`` are all paths.

    Raises:
        NotFound: there is no manifest.
    """
    if manifest is None:
        why = f"{MANIFEST_NAME} is written last and is not there"
        fix = "run qwenkit upload; it resumes"
        raise NotFound(f"{url} holds no complete upload", why, fix)
    with ThreadPoolExecutor(_WORKERS) as pool:
        problems = [found for found in pool.map(check, manifest.files) if found]
    broken = {problem.file for problem in problems}
    sound = [file for file in manifest.files if file.path not in broken]
    problems += _tensor_problems(read, sound, known=manifest.files)
    stored, notes = set(stored), pickles(manifest.paths)
    if SIGNATURE in stored:
        sums = {file.path: file.sha256 for file in manifest.files if file.path in stored}
        bundle, sums = read(SIGNATURE, 0, _INDEX_LIMIT), dict.fromkeys(stored, "") | sums
        wrong, note = check_signature(bundle, sums, manifest.selection, signer)
        problems, notes = [*problems, *wrong], (*notes, note)
    elif signer:
        problems.append(FileProblem(SIGNATURE, "is missing, and there is a signer"))
    listed = manifest.paths | {MANIFEST_NAME}
    return VerifyReport(
        url,
        prefix,
        manifest.source,
        manifest.revision,
        len(manifest.files),
        manifest.bytes,
        tuple(sorted(problems, key=lambda problem: problem.file)),
        tuple(f"{prefix}/{path}" for path in sorted(stored - listed)),
        str(manifest.selection),
        notes=notes,
    )


def differs(file: StoredFile, size: int, crc: int) -> FileProblem | None:
    """Say how what is there differs from the manifest's file, None if it does not."""
    if size != file.size:
        return FileProblem(file.path, f"has {size} bytes instead of {file.size}")
    if crc != file.crc64:
        return FileProblem(file.path, f"has CRC-64 {crc} instead of {file.crc64}")
    return None


def _object_problem(bucket: oss2.Bucket, prefix: str, file: StoredFile) -> FileProblem | None:
    key = f"{prefix}/{file.path}"
    head = get_if_exists(bucket, object_url(bucket, key), partial(bucket.head_object, key))
    if head is None:
        return FileProblem(file.path, "is missing")
    if found := differs(file, head.content_length, head.server_crc):
        return found
    stated = head.headers.get(META_SHA256, file.sha256)
    if stated != file.sha256:
        return FileProblem(file.path, f"is labelled sha256 {stated} instead of {file.sha256}")
    return None


def _tensor_problems(
    read: Read, files: Collection[StoredFile], known: Iterable[StoredFile] = ()
) -> list[FileProblem]:
    """Read the headers of all shards, and compare every index with them."""
    sizes = {file.path: file.size for file in (*files, *known)}
    problems: list[FileProblem] = []
    tensors: dict[str, frozenset[str]] = {}
    for file in files:
        if file.path.endswith(".safetensors"):
            try:
                tensors[file.path] = read_header(file.size, partial(read, file.path))
            except HeaderError as error:
                problems.append(FileProblem(file.path, str(error)))
    for file in files:
        if _INDEX.fullmatch(file.path) and file.size <= _INDEX_LIMIT:
            text = read(file.path, 0, file.size)
            shards, missing = _shards(file.path, text, sizes)
            problems += missing
            for shard, names in shards.items():
                if shard in tensors and (lost := sorted(names - tensors[shard])):
                    message = f"lacks {_name(lost[0])}, which {file.path} places in it"
                    problems.append(FileProblem(shard, message))
    return problems


def _shards(
    path: str, text: bytes, sizes: Mapping[str, int]
) -> tuple[dict[str, set[str]], list[FileProblem]]:
    """Return the tensors of each shard that an index names, and the shards that are not there."""
    try:
        weight_map = json.loads(text)["weight_map"]
        placed = list(weight_map.items())
        if not all(isinstance(shard, str) for _, shard in placed):
            raise TypeError("a shard is not a name")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return {}, [FileProblem(path, f"cannot be read as an index of shards: {error}")]
    folder = path.rpartition("/")[0]
    shards: dict[str, set[str]] = {}
    for tensor, shard in placed:
        shards.setdefault(f"{folder}/{shard}" if folder else shard, set()).add(tensor)
    missing = [shard for shard in sorted(shards) if shard not in sizes]
    return shards, [
        FileProblem(_name(shard), f"is missing, and {path} names it") for shard in missing
    ]


def _gaps(paths: Iterable[str]) -> Iterator[str]:
    """Yield the shards missing from a numbered set: 2-of-2 if only 1-of-2 is there."""
    sets: dict[tuple[str, str, str], set[str]] = {}
    for match in filter(None, map(_NUMBERED.fullmatch, paths)):
        sets.setdefault((match[1], match[3], match[4]), set()).add(match[2])
    for (stem, total, kind), texts in sorted(sets.items()):
        numbers = set(map(int, texts))
        width = max(len(text) if text[0] == "0" else 1 for text in texts)
        first = 0 if 0 in numbers else 1  # from 0, some sets end at their total and some before it
        for number in range(first, int(total) + first):
            if number not in numbers:
                yield f"{stem}-{number:0{width}}-of-{total}.{kind}"


def _content(repository: Repository, file: SourceFile, count: int) -> bytes:
    buffer = bytearray(count)
    with SourceStream(repository, file, RetryPolicy()) as stream:
        stream.fill(memoryview(buffer))
    return bytes(buffer)


def stored_bytes(bucket: oss2.Bucket, prefix: str) -> Read:
    """Return what reads ranges of the objects of a prefix."""
    return partial(_range, bucket, prefix)


def _range(bucket: oss2.Bucket, prefix: str, path: str, start: int, count: int) -> bytes:
    key = f"{prefix}/{path}"
    if not count:
        return b""

    def get() -> Any:
        answer = bucket.get_object(key, byte_range=(start, start + count - 1))
        return answer.read()

    data: bytes = call_oss(bucket, f"read {object_url(bucket, key)}", get)
    return data


def _raise_first(problems: list[FileProblem], where: str, fix: str) -> None:
    if problems:
        first, more = problems[0], f"{len(problems) - 1}{' or more' * (len(problems) >= _PROBLEMS)}"
        raise Rejected(
            f"{where}: {first}",
            f"and {more} more" if problems[1:] else "a server would not start on such weights",
            fix,
            problems=[str(problem) for problem in problems[:_PROBLEMS]],
        )


def _name(text: str) -> str:
    """Return a name in a file of the source as it may be printed."""
    return text if text.isprintable() and len(text) <= 100 else shown(text)
