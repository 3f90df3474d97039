"""How does a sandbox run in a process of its own, and end with the process that wanted it?

Its standard input is a pipe from that process. It closes when that process ends, even if it is
killed; the sandbox then ends, too. A byte sets it free.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from pathlib import Path

from qwenkit.sandbox import root_lock, state_files
from qwenkit.sandbox.root import claim, removal
from qwenkit.sandbox.state_files import SandboxOptions

STAYS, GOES = "stays", "goes"
"""What becomes of the folder when the sandbox ends."""
_END_S = 20.0


def serve(
    root: Path, options: SandboxOptions, *, began: float, mode: str = "", known: str = ""
) -> None:
    """Run the sandbox under ``root`` in this process, until SIGTERM or Ctrl-C.

    ``began`` is when the wait for it began, on the monotonic clock, which all processes share.
    With a ``mode``, it ends with the process that started it, unless that sets it free. ``known``
    is the id of the marker that this process found.

    Raises:
        SandboxError: one runs there already, the folder is not a sandbox's, or a port is taken.
    """
    from qwenkit.sandbox.assembly import run

    with claim.owned(root, root_lock.RUNS, known=known):
        if mode:
            _log_to(root / state_files.LOG)
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("qwenkit").setLevel(logging.INFO)
        asyncio.run(run(root, options, began, on_stoppable=_watch if mode else None))
        if mode == GOES:
            removal.remove(root)


def serve_detached(
    root: Path, options: SandboxOptions, *, began: float, mode: str, known: str
) -> int:
    """Run ``serve`` in a child with a session of its own: Ctrl-C in the terminal is not for it.

    Returns 0 once the child holds the lock, its exit code if it ends before. The child does not
    return.
    """
    if child := os.fork():
        while root_lock.holder(root) != child:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        return 0
    os.setsid()
    serve(root, options, began=began, mode=mode, known=known)
    return 0


def _watch() -> None:
    """End this process, as ``down`` does, when the one that started it ends first."""

    def wait() -> None:
        if not os.read(0, 1):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_END_S)
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _log_to(path: Path) -> None:
    """Write to the log, made anew if the folder was removed since the start."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)
