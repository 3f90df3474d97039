"""Which vLLM is in an image, as far as its name says: release, and built for CPUs or GPUs?"""

from __future__ import annotations

import re
from dataclasses import dataclass

Version = tuple[int, int, int]
_TAG = re.compile(r":v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?")
_CURRENT: Version = (0, 26, 0)  # of an image whose tag names no release


@dataclass(frozen=True)
class Release:
    """A release of vLLM, and whether it is the build for CPUs.

    The page's image is 0.4.1; what is older behaves as it does.
    """

    version: Version = (0, 4, 1)
    cpu: bool = False

    @property
    def newer(self) -> bool:
        """Whether it has the newer command line, answers and log."""
        return self.version >= (0, 5)

    @property
    def has_program(self) -> bool:
        """Whether there is ``vllm serve``, as far as the sandbox knows."""
        return self.version >= (0, 5, 4)

    @property
    def v1(self) -> bool:
        """Whether its engine is V1, on every card that it runs on."""
        return self.version >= (0, 9)

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


PAGE = Release()
"""The page's own."""


def of_image(image: str) -> Release | None:
    """Return the release in an image, None if it is no image of vLLM."""
    reference = image.partition("@")[0]
    last = reference.rpartition("/")[2]
    name = last.partition(":")[0]
    if "vllm" not in name:
        return None
    found = _TAG.search(last)
    version = (int(found[1]), int(found[2]), int(found[3] or 0)) if found else _CURRENT
    return Release(version, cpu="cpu" in name)
