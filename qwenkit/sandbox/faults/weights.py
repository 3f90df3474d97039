"""Faults of the weights in the bucket: files stay damaged until they are uploaded again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from qwenkit.errors import NotFound
from qwenkit.sandbox.faults.catalogue import FaultSpec

_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 9130000000\n"
)


def damage(spec: FaultSpec, bucket: Path) -> str:
    """Damage one safetensors file of a bucket's folder; return its name.

    Raises:
        NotFound: there is no such file.
    """
    path = _find(spec, bucket)
    made: dict[str, Callable[[bytes], bytes]] = {
        "broken-header": lambda data: b"\xff" * 8 + data[8:],
        "zero-tensor": _zeroed,
        "lfs-pointer": lambda _: _POINTER.encode(),
    }
    if spec.what == "missing-shard":
        path.unlink()
    else:
        # In one step: a reader gets the whole old file or the whole new one.
        spoilt = path.with_name(f".{path.name}.spoilt")
        spoilt.write_bytes(made[spec.what](path.read_bytes()))
        spoilt.replace(path)
    return path.relative_to(bucket).as_posix()


def _find(spec: FaultSpec, bucket: Path) -> Path:
    folder = (bucket / spec.prefix.strip("/")).resolve()
    inside = folder.is_relative_to(bucket.resolve())
    found = sorted(folder.glob("*.safetensors")) if inside else []
    chosen = [path for path in found if spec.name in ("", path.name)]
    if not chosen:
        raise NotFound(
            f"no {spec.name or 'safetensors file'} under {spec.prefix}/ in the sandbox's bucket",
            f"there: {', '.join(path.name for path in found) or 'nothing'}",
            "upload the model first; --prefix names its folder",
        )
    return chosen[0]


def _zeroed(data: bytes) -> bytes:
    """Return a safetensors file whose largest tensor is zeros."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    places = [one["data_offsets"] for name, one in header.items() if name != "__metadata__"]
    start, end = max(places, key=lambda place: place[1] - place[0])
    head = 8 + size
    return data[: head + start] + bytes(end - start) + data[head + end :]
