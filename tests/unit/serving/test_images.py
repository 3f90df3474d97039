from __future__ import annotations

import pytest

from qwenkit.serving import images
from qwenkit.serving.images import image_of
from qwenkit.settings import PAGE_IMAGE


def test_the_table_agrees_with_its_tags_and_its_sources_are_named() -> None:
    for name, image in images.IMAGES.items():
        assert image.shown_version in name
        assert image.source
        assert image.date
        assert not image.digest or image.digest.startswith("sha256:")
    assert images.PAGE.name == PAGE_IMAGE


@pytest.mark.parametrize(
    ("name", "version", "capability", "serves", "strategy"),
    [
        ("vllm/vllm-openai:v0.5.0", (0, 5, 0), 7.0, False, ""),
        ("vllm/vllm-openai:v0.8.5.post1", (0, 8, 5), 7.0, True, ""),
        ("registry.example.com:5000/vllm-openai:v0.9.2-cu126", (0, 9, 2), 7.5, True, ""),
        ("vllm/vllm-openai:v0.11.0", (0, 11, 0), 7.5, True, "eager"),
        ("mine/vllm:0.20", (0, 20, 0), 7.5, True, "prefetch"),
        ("mine/vllm:latest", (), 0.0, False, ""),
        ("registry.example.com:5000/vllm", (), 0.0, False, ""),
        ("public.ecr.aws/x/vllm-cpu-release-repo:v0.12.0", (0, 12, 0), 0.0, True, "eager"),
    ],
)
def test_an_image_of_ones_own_is_known_by_its_tag(
    name: str, version: tuple[int, ...], capability: float, serves: bool, strategy: str
) -> None:
    image = image_of(name)
    assert image.version == version
    assert image.least_capability == capability
    assert (image.serves, image.load_strategy) == (serves, strategy)


def test_a_digest_beside_the_tag_is_kept() -> None:
    image = image_of("mine/vllm:v0.10.1@sha256:" + "0" * 64)
    assert (image.version, image.digest) == ((0, 10, 1), "sha256:" + "0" * 64)
    assert image_of(f"{images.CURRENT.name}@sha256:{'1' * 64}").version == images.CURRENT.version
