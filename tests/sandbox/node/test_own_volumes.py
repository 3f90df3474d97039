"""A Job of the sandbox writes and reads its own volumes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.kubelet.local_folder import LocalFolder
from qwenkit.sandbox.kubelet.mounted_folder import MountedFolder
from qwenkit.sandbox.kubelet.own import upload
from qwenkit.sandbox.kubelet.volumes import Mount

OWN = "http://127.0.0.1:1"


def in_volumes(root: Path) -> list[Mount]:
    return [
        Mount("/weights", LocalFolder(root / "pvc-1")),
        Mount("/kept", LocalFolder(root / "pvc-2"), read_only=True),
        Mount("/claimed", LocalFolder(root / "pvc-3", read_only=True)),
        Mount("/bucket", MountedFolder(OWN, "x", "", "id", "key")),
    ]


@pytest.mark.parametrize(
    "target", ["/etc", "/weights/../x", "/weightsx", "/kept/x", "/claimed", "/bucket/x", "/"]
)
def test_an_upload_writes_into_its_own_volume_alone(tmp_path: Path, target: str) -> None:
    with pytest.raises(InvalidValue, match="is not valid"):
        upload._local(target, in_volumes(tmp_path), written=True)
    inside = upload._local("/weights/a//b", in_volumes(tmp_path), written=True)
    assert inside == tmp_path / "pvc-1" / "a" / "b"


def test_a_log_shows_the_path_of_the_container(tmp_path: Path) -> None:
    found = upload.verify(["/kept/qwen", "--json"], in_volumes(tmp_path))
    lines: list[str] = []
    found.said(lines.append)(f'{{"url": "{found.words[1]}"}}')
    assert lines == ['{"url": "/kept/qwen"}']
    for args in ([], ["/kept", "--set"], ["oss://x/y"], ["/etc", "--json"]):
        with pytest.raises(InvalidValue):
            upload.verify(args, in_volumes(tmp_path))
