"""safetensors headers, indexes, and what verify finds in a bucket."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oss2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transfer_world import world

from qwenkit.errors import NotFound, Rejected
from qwenkit.weights.integrity import verify
from qwenkit.weights.safetensors import HeaderError, read_header
from qwenkit.weights.transfer import upload


def safetensors(tensors: dict[str, int], **spoil: Any) -> bytes:
    """Return a file of U8 tensors of the given lengths."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, length in tensors.items():
        entry = {"dtype": "U8", "shape": [length], "data_offsets": [end, end + length]}
        header[name] = entry | spoil
        end += length
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(range(256)) * (end // 256) + bytes(end % 256)


def names(data: bytes) -> frozenset[str]:
    return read_header(len(data), lambda start, count: data[start : start + count])


def test_a_whole_file_names_its_tensors() -> None:
    assert names(safetensors({"a": 10, "b": 0, "c": 600})) == {"a", "b", "c"}


@pytest.mark.parametrize("cut", [1, 8, 100])
def test_a_file_that_lost_its_end_is_noticed(cut: int) -> None:
    with pytest.raises(HeaderError, match="bytes of tensors instead of"):
        names(safetensors({"a": 10, "c": 600})[:-cut])


@pytest.mark.parametrize(
    "spoil",
    [{"data_offsets": [5, 15]}, {"data_offsets": [0, 9]}, {"shape": [3]}, {"shape": "x"},
     {"data_offsets": None}, {"dtype": "F32"}],
)  # fmt: skip
def test_a_header_that_contradicts_itself_is_noticed(spoil: dict[str, Any]) -> None:
    with pytest.raises(HeaderError):
        names(safetensors({"a": 10}, **spoil))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_names_or_a_clear_error(data: bytes) -> None:
    with contextlib.suppress(HeaderError):
        assert isinstance(names(data), frozenset)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[oss2.Bucket]:
    with world(tmp_path) as place:
        yield place.bucket


def model(folder: Path, shards: dict[str, bytes], weight_map: dict[str, str]) -> str:
    folder.mkdir()
    for name, data in shards.items():
        (folder / name).write_bytes(data)
    index = json.dumps({"weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index)
    return str(folder)


def send(bucket: oss2.Bucket, source: str, tmp_path: Path) -> None:
    upload(source, bucket, "m", run="test", state_dir=tmp_path / "state")


def test_a_model_that_fits_together(bucket: oss2.Bucket, tmp_path: Path) -> None:
    shards = {"1.safetensors": safetensors({"a": 5}), "2.safetensors": safetensors({"b": 7})}
    weight_map = {"a": "1.safetensors", "b": "2.safetensors"}
    send(bucket, model(tmp_path / "model", shards, weight_map), tmp_path)
    report = verify(bucket, "m")
    assert report.ok
    assert report.files == 3


def test_shards_that_do_not_fit_get_no_manifest(bucket: oss2.Bucket, tmp_path: Path) -> None:
    shards = {"1.safetensors": safetensors({"a": 5}), "2.safetensors": safetensors({"b": 7})[:-1]}
    source = model(tmp_path / "cut", shards, {"a": "1.safetensors"})
    with pytest.raises(Rejected, match=r"2\.safetensors holds 6 bytes of tensors instead of 7"):
        send(bucket, source, tmp_path)
    shards["2.safetensors"] = safetensors({"b": 7})
    source = model(tmp_path / "lost", shards, {"a": "1.safetensors", "c": "2.safetensors"})
    with pytest.raises(Rejected, match=r"2\.safetensors lacks c"):
        send(bucket, source, tmp_path)
    with pytest.raises(NotFound, match="no complete upload"):
        verify(bucket, "m")


@pytest.mark.parametrize("index", ["", "[]", '{"weight_map": 3}', "{}"])
def test_an_index_that_is_none_is_refused(bucket: oss2.Bucket, tmp_path: Path, index: str) -> None:
    source = model(tmp_path / "model", {}, {})
    (tmp_path / "model" / "model.safetensors.index.json").write_text(index)
    with pytest.raises(Rejected, match="cannot be read as an index"):
        send(bucket, source, tmp_path)


def test_verify_names_every_file_at_fault(bucket: oss2.Bucket, tmp_path: Path) -> None:
    shards = {"1.safetensors": safetensors({"a": 5}), "2.safetensors": safetensors({"b": 7})}
    weight_map = {"a": "1.safetensors", "b": "2.safetensors"}
    send(bucket, model(tmp_path / "model", shards, weight_map), tmp_path)
    bucket.delete_object("m/1.safetensors")
    bucket.put_object("m/2.safetensors", shards["2.safetensors"][::-1])
    bucket.put_object("m/model.safetensors.index.json", b"{}")
    found = {problem.file: problem.message for problem in verify(bucket, "m").problems}
    assert found["1.safetensors"] == "is missing"
    assert "CRC-64" in found["2.safetensors"]
    assert "2 bytes instead of" in found["model.safetensors.index.json"]
