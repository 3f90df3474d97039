from __future__ import annotations

import json
from importlib.resources import files

import pytest

from qwenkit.serving import images
from qwenkit.serving.images import ServerImage

TABLE = (images.PAGE, images.VOLTA, images.CURRENT, images.CPU)


def test_the_table_names_versions_and_sources() -> None:
    table = json.loads((files("qwenkit.serving") / "images.json").read_text("utf-8"))["images"]
    assert [row["name"] for row in table.values()] == [image.name for image in TABLE]
    for row in table.values():
        assert row["source"]
        assert row["date"]
        assert not row["digest"] or row["digest"].startswith("sha256:")
    assert all(image.version >= (0, 4, 1) and image.least_capability <= 7.5 for image in TABLE)
    assert images.PAGE.name.endswith("cn-shanghai.cr.aliyuncs.com/kube-ai/vllm:0.4.1")


@pytest.mark.parametrize(
    ("name", "version", "capability"),
    [
        ("vllm/vllm-openai:v0.5.0", (0, 5, 0), 7.0),
        ("vllm/vllm-openai:v0.8.5.post1", (0, 8, 5), 7.0),
        ("registry.example.com:5000/vllm-openai:v0.9.2-cu126", (0, 9, 2), 7.5),
        ("vllm/vllm-openai:v0.11.0", (0, 11, 0), 7.5),
        ("mine/vllm:0.20", (0, 20, 0), 7.5),
        ("mine/vllm:latest", (), 0.0),
        ("registry.example.com:5000/vllm", (), 0.0),
        ("public.ecr.aws/x/vllm-cpu-release-repo:v0.12.0", (0, 12, 0), 0.0),
    ],
)
def test_an_image_of_ones_own_is_known_by_its_tag(
    name: str, version: tuple[int, ...], capability: float
) -> None:
    image = ServerImage(name)
    assert image.version == version
    assert image.least_capability == capability
    assert image.has(0, 6) is (not version or version >= (0, 6))


def test_a_digest_beside_the_tag_hides_no_version() -> None:
    assert ServerImage("mine/vllm:v0.10.1@sha256:" + "0" * 64).version == (0, 10, 1)
