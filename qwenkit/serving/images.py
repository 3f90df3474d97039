"""The images of vLLM that are known here, and what a version of vLLM can do.

What follows from the version holds for images of one's own too, if their tag names it:

    0.4.1   ``VLLM_API_KEY`` is read from the environment (its api_server.py)
    0.5.4   transformers 4.44: a model without a chat template of its own has none (vllm#7978)
    0.6     ``vllm serve MODEL`` (vllm#5090). No version accepts connections before the model is
            loaded; since #8537 the port is bound before, which only keeps it for vLLM
    0.8     V1 engine, which needs capability 8.0 at first; V0 is gone in 0.11
    0.9     images for CUDA 12.8: no kernels below capability 7.5 (vllm#18818, the V100 of #13398)
    0.11    ``--safetensors-load-strategy eager`` (vllm#24469)
    0.18    ``--safetensors-load-strategy prefetch`` (vllm#36012)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

Version = tuple[int, ...]
_TAG = re.compile(r":v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?(?!\d)")
FIND_DIGEST = "docker buildx imagetools inspect IMAGE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerImage:
    """An image of vLLM. ``version`` is empty where the tag names none.

    ``digest`` is what the registry showed on ``date``; empty: none is published, ``FIND_DIGEST``
    prints it. ``cuda`` is the toolkit in it, which decides how new the node's driver must be.
    """

    name: str
    version: Version = ()
    digest: str = ""
    cuda: str = ""
    cpu: bool = False
    source: str = ""
    date: str = ""

    @property
    def least_capability(self) -> float:
        """The compute capability of the oldest card that it has kernels for; 0 where unknown."""
        if self.cpu or not self.version:
            return 0.0
        return 7.5 if self.version >= (0, 9) else 7.0

    @property
    def serves(self) -> bool:
        """Whether it is started by ``vllm serve MODEL``; older ones by their module."""
        return self.version >= (0, 6)

    @property
    def asked_by_http(self) -> bool:
        """Whether the probes ask /health, which asks the engine; the page's asks its open port."""
        return not self.version or self.version >= (0, 6)

    @property
    def needs_chat_template(self) -> bool:
        """Whether a model without a chat template of its own must be given one."""
        return not self.version or self.version >= (0, 5, 4)

    @property
    def reads_quantization(self) -> bool:
        """Whether it takes the method, and its fastest kernel, from config.json by itself."""
        return not self.version or self.version >= (0, 6)

    @property
    def load_strategy(self) -> str:
        """The best way to read safetensors from a FUSE mount, of those that it has."""
        if self.version >= (0, 18):
            return "prefetch"
        return "eager" if self.version >= (0, 11) else ""

    @property
    def shown_version(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


PAGE = ServerImage(
    name="kube-ai-registry.cn-shanghai.cr.aliyuncs.com/kube-ai/vllm:0.4.1",
    version=(0, 4, 1),
    cuda="12.1",
    source="the documentation page",
    date="2024-12",
)
VOLTA = ServerImage(
    name="vllm/vllm-openai:v0.8.5",
    version=(0, 8, 5),
    digest="sha256:6cf9808ca8810fc6c3fd0451c2e7784fb224590d81f7db338e7eaf3c02a33d33",
    cuda="12.4",
    source="Docker Hub; vllm-project/production-stack tutorial 25: the last with V100 kernels",
    date="2025-04",
)
CURRENT = ServerImage(
    name="vllm/vllm-openai:v0.26.0-cu129",
    version=(0, 26, 0),
    cuda="12.9",
    source="Docker Hub; without -cu129 it is built for CUDA 13, which needs driver 580",
    date="2026-08",
)
CPU = ServerImage(
    name="vllm/vllm-openai-cpu:v0.26.0",
    version=(0, 26, 0),
    cpu=True,
    source="docs.vllm.ai, installation on CPU: Docker Hub, x86 with AVX2 or AVX-512, and ARM",
    date="2026-08",
)
IMAGES: Mapping[str, ServerImage] = {each.name: each for each in (PAGE, VOLTA, CURRENT, CPU)}


def image_of(name: str) -> ServerImage:
    """Return what is known of an image: its row of the table, else what its tag tells."""
    plain, _, digest = name.partition("@")
    if row := IMAGES.get(plain):
        return replace(row, name=name, digest=digest or row.digest)
    found = _TAG.search(plain.rsplit("/", 1)[-1])
    version = tuple(int(part or 0) for part in found.groups()) if found else ()
    return ServerImage(name=name, version=version, digest=digest, cpu="cpu" in plain)
