"""How does a pod run ``qwenkit upload``? Really, in the transfer image only.

The image stands for the project itself: the program is the one that runs the sandbox.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from qwenkit.sandbox.kubelet import child
from qwenkit.sandbox.kubelet.images import TRANSFER_IMAGE

_NOT_FOUND = 127


async def upload(
    args: Sequence[str],
    *,
    image: str,
    env: Mapping[str, str],
    programs: child.Programs | None,
    log: Callable[[str], None],
) -> int:
    """Run it with the container's environment and a private home; return its exit status.

    Args:
        args: the arguments after ``qwenkit upload``.
        image: the container's image.
        env: the container's environment.
        programs: the folder for its home; None if the node runs no programs.
        log: gets its lines.
    """
    if image != TRANSFER_IMAGE or programs is None:
        log('exec: "qwenkit": executable file not found in $PATH')
        log(f"sandbox: the node has qwenkit in the image {TRANSFER_IMAGE} only")
        return _NOT_FOUND
    with programs.private() as home:
        argv = [sys.executable, "-m", "qwenkit", "upload", *args]
        whole = {**env, **child.environment(home)}
        async with child.running(argv, env=whole, folder=home, log=log) as process:
            return await process.ended()
