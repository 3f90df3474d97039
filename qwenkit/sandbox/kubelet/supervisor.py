"""How does a program end with the sandbox that runs it, even if the sandbox is killed?

``python supervisor.py GRACE_S LIMITS PROGRAM ARGUMENT …``; LIMITS are ``CORE=0,FSIZE=…``.
Standard input is a pipe from the sandbox. When it is closed, also by the sandbox's death, the
program's whole group gets SIGTERM, and SIGKILL after GRACE_S. A pipe, because only Linux can tie
a process to the death of its parent.
Run by its path: it imports nothing of the project.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time

_NOT_FOUND = 127


def main() -> int:
    """Run the program; return its status as a shell shows it."""
    os.setsid()
    # The lock shows to the clean-up after a dead sandbox that the program still runs.
    fcntl.flock(os.open("..", os.O_RDONLY), fcntl.LOCK_SH)
    # A handler, because the program would inherit an ignored signal.
    signal.signal(signal.SIGTERM, lambda *_: None)
    _limit(sys.argv[2])
    try:
        program = subprocess.Popen(sys.argv[3:], stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"{sys.argv[3]}: {error.strerror}\n")
        return _NOT_FOUND
    threading.Thread(target=_watch, args=(float(sys.argv[1]),), daemon=True).start()
    code = program.wait()
    return code if code >= 0 else 128 - code


def _limit(limits: str) -> None:
    """Set limits that the program inherits; never more than this process may use itself."""
    for name, _, text in (one.partition("=") for one in limits.split(",")):
        which = getattr(resource, f"RLIMIT_{name}")
        if which == resource.RLIMIT_AS and sys.platform == "darwin":
            continue  # macOS keeps no such limit
        most = resource.getrlimit(which)[1]
        value = int(text) if most == resource.RLIM_INFINITY else min(int(text), most)
        resource.setrlimit(which, (value, value))


def _watch(grace_s: float) -> None:
    os.read(0, 1)
    os.killpg(0, signal.SIGTERM)
    time.sleep(grace_s)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
