from __future__ import annotations

import pytest

from qwenkit.serving import images
from qwenkit.serving.images import image_of

TABLE = (images.PAGE, images.VOLTA, images.CURRENT, images.CPU)


def test_the_table_names_versions_and_sources() -> None:
    for image in TABLE:
        assert image.version >= (0, 4, 1)
        assert image.source
        assert image.date
        assert not image.digest or image.digest.startswith("sha256:")
        assert image_of(image.name) == image
    assert images.PAGE.name.endswith("cn-shanghai.cr.aliyuncs.com/kube-ai/vllm:0.4.1")
    assert all(image.least_capability <= 7.5 for image in TABLE)


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
    image = image_of(name)
    assert image.version == version
    assert image.least_capability == capability
    assert image.has(0, 6) is (not version or version >= (0, 6))


def test_a_digest_beside_the_tag_is_kept() -> None:
    image = image_of("mine/vllm:v0.10.1@sha256:" + "0" * 64)
    assert (image.version, image.digest) == ((0, 10, 1), "sha256:" + "0" * 64)
    assert image_of(f"{images.CURRENT.name}@sha256:{'1' * 64}").version == images.CURRENT.version
