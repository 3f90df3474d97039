"""Which files does a mounted volume of this node hold? A folder under the sandbox's root."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from qwenkit.errors import TransferError
from qwenkit.sandbox.kubelet.mounted_folder import MAX_BYTES


@dataclass(frozen=True)
class LocalFolder:
    """A volume's folder, made when it is mounted, and the part of it that a container sees."""

    root: Path
    prefix: str = ""
    """Without a leading slash; empty for the whole volume, else with a slash at the end."""
    read_only: bool = False

    async def list(self, folder: str = "") -> dict[str, int]:
        """Return the sizes of the files under a folder of the volume, by relative name."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return await asyncio.to_thread(self._sizes, self.path(folder))

    async def read(self, folder: str = "") -> dict[str, bytes]:
        """Return the files under a folder of the volume by relative name.

        Raises:
            TransferError: they are larger than ``MAX_BYTES`` together.
        """
        sizes = await self.list(folder)
        if sum(sizes.values()) > MAX_BYTES:
            raise TransferError(
                f"{self.prefix}{folder} holds {sum(sizes.values())} bytes",
                f"the sandbox's node reads at most {MAX_BYTES} bytes of a volume into memory",
                "mount the sandbox's own small model",
            )
        base = self.path(folder)
        return {name: await asyncio.to_thread((base / name).read_bytes) for name in sizes}

    def path(self, inner: str) -> Path:
        """Return where a path of the volume is on this machine; it has no ``..``."""
        return self.root.joinpath(*filter(None, f"{self.prefix}{inner}".split("/")))

    def _sizes(self, base: Path) -> dict[str, int]:
        found = (one for one in sorted(base.rglob("*")) if one.is_file() and not one.is_symlink())
        return {one.relative_to(base).as_posix(): one.stat().st_size for one in found}
