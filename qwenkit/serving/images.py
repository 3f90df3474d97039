"""The images of vLLM that are known here (``images.json``), and what a version of vLLM can do.

What follows from the version holds for images of one's own too, if their tag names it:

    0.5.4   transformers 4.44: a model without a chat template of its own has none (vllm#7978)
    0.6     ``vllm serve MODEL`` (vllm#5090); older ones are started by their module
    0.8     V1 engine, which needs capability 8.0 at first
    0.9     images for CUDA 12.8: no kernels below capability 7.5 (vllm#18818)
    0.11    ``--safetensors-load-strategy eager`` (vllm#24469); any other name reads like ``lazy``
    0.18    ``prefetch`` (vllm#36012), soon by itself on NFS (vllm#37673), never on FUSE

All read ``VLLM_API_KEY``, and none accepts connections before the model is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from qwenkit.capacity.gpu import Gpu

_DATA = json.loads((files("qwenkit.serving") / "images.json").read_text("utf-8"))
OWN_CODE: tuple[str, ...] = tuple(_DATA["own_code"])  # in the model folder: --trust-remote-code
SIZE_GB: Mapping[str, float] = {row["name"]: row["gb"] for row in _DATA["images"].values()}
WHY: Mapping[str, str] = _DATA["why"]  # the server has a flag or variable that is no setting
_TAG = re.compile(r":v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?(?!\d)")
FIRST_VERSION: Mapping[str, tuple[int, ...]] = {
    name: tuple(version) for name, version in _DATA["architectures"].items()
}
"""The first vLLM that serves an architecture; one that is not here may be served or not."""


@dataclass(frozen=True, slots=True)
class ServerImage:
    """An image of vLLM, one's own too."""

    name: str

    @property
    def version(self) -> tuple[int, ...]:
        """The version of vLLM that the tag names; empty if it names none."""
        found = _TAG.search(self.name.partition("@")[0].rsplit("/", 1)[-1])
        return tuple(int(part or 0) for part in found.groups()) if found else ()

    @property
    def cpu(self) -> bool:
        """Whether it is vLLM's build for CPUs."""
        return "cpu" in self.name

    @property
    def load_strategy(self) -> str:
        """Its best ``--safetensors-load-strategy`` for a FUSE mount; "" if it has none."""
        return "prefetch" if self.version >= (0, 18) else "eager" if self.version >= (0, 11) else ""

    @property
    def least_capability(self) -> float:
        """The compute capability of the oldest card that it has kernels for; 0 where unknown."""
        return 0.0 if self.cpu or not self.version else 7.5 if self.version >= (0, 9) else 7.0

    def has_v1(self, gpu: Gpu) -> bool:
        """Whether it runs its V1 engine on a GPU."""
        return self.has(0, 9) or (self.has(0, 8) and gpu.compute_capability >= 8)

    def has(self, *since: int) -> bool:
        """Whether it can do what vLLM can since a version; an unknown one is taken for new."""
        return not self.version or self.version >= since


PAGE, VOLTA, CURRENT, CPU = (ServerImage(row["name"]) for row in _DATA["images"].values())
