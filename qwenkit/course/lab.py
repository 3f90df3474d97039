"""JupyterLab on the course: this environment's kernel, the sandbox's variables, our start page.

Where a JupyterHub starts it (``Spawner.cmd = ["qwenkit", "lab"]``), it is the server of one user.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from qwenkit.course.runner import find_notebooks
from qwenkit.sandbox import process, root_lock

START = "qwenkit"  # the start page's path on the server
# It ends when the process that started it does, however that ends: the pipe is closed then.
_PROGRAM = """
import os, runpy, signal, sys, threading
end, module = int(sys.argv.pop(1)), sys.argv.pop(1)
wait = lambda: os.read(end, 1) or os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=wait, daemon=True).start()
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
# What JupyterHub starts answers to its users alone, at the address that the hub gives it.
_HUB, _OF_HUB, _ALONE = "JUPYTERHUB_API_TOKEN", "jupyterhub.singleuser", "jupyterlab"
_OPTIONS = (
    f"--LabApp.default_url=/{START}",
    "--ServerApp.jpserver_extensions=qwenkit.course.start_page=True",
    "--ServerApp.kernel_spec_manager_class=qwenkit.course.kernel.OwnKernel",
    "--ServerApp.answer_yes=True",  # Ctrl-C ends it, without a question
    "--Application.log_level=WARN",
)
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(root: Path | None, options: Sequence[str]) -> int:
    """Run JupyterLab on the sandbox under ``root`` until it ends; return its exit code.

    ``options`` are JupyterLab's own and win over ours. Without a sandbox the target is what this
    process's environment says.

    Raises:
        SandboxError: no sandbox runs there, or another lab uses it.
        NotFound: there are no notebooks.
    """
    folder = find_notebooks(None)[0].parent
    own = {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
    }
    environment = os.environ | (process.environment(root) if root else {}) | own
    with ExitStack() as stack:
        end, ours = os.pipe()
        stack.callback(os.close, ours)
        stack.callback(os.close, end)
        if root:
            stack.enter_context(root_lock.used(root))
        child = subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", _PROGRAM, str(end)),
                _OF_HUB if os.environ.get(_HUB) else _ALONE,
                *_OPTIONS,
                f"--ServerApp.root_dir={folder}",
                *options,
            ],
            env=environment,
            pass_fds=[end],
        )
        for number in _ENDING:
            # By SIGTERM it also ends its kernels, whether it has a terminal or not.
            before = signal.signal(number, lambda *_: child.terminate())
            stack.callback(signal.signal, number, before)
        code = child.wait()
    return code if code >= 0 else 128 - code
