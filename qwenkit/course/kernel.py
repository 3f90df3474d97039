"""The one kernel of the course: that of the environment in which qwenkit is installed."""

from __future__ import annotations

from jupyter_client.kernelspec import KernelSpecManager


class OwnKernel(KernelSpecManager):
    """Knows no other: a ``python3`` that another environment installed would come first."""

    def _kernel_dirs_default(self) -> list[str]:
        return []
