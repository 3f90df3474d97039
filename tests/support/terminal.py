"""A command at a terminal: what it shows is waited for, answers are typed."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from places import ROOT


class Terminal:
    """The keyboard and the screen of one ``qwenkit`` command."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._master, slave = pty.openpty()
        self.shown, self._read = "", 0
        self._child = subprocess.Popen(
            [sys.executable, "-m", "qwenkit", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        os.close(slave)

    def expect(self, words: str) -> str:
        """Wait until it shows some words, and return what came before them since the last time."""
        while words not in self.shown[self._read :]:
            if not select.select([self._master], [], [], 60)[0]:
                raise TimeoutError(f"{words!r} is not in {self.shown!r}")
            self.shown += os.read(self._master, 4096).decode()
        start, self._read = self._read, self.shown.index(words, self._read) + len(words)
        return self.shown[start : self._read]

    def type(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def interrupt(self) -> None:
        self._child.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Return its exit code."""
        with suppress(OSError):  # the end of its output
            while select.select([self._master], [], [], 60)[0]:
                data = os.read(self._master, 4096)
                if not data:
                    break
                self.shown += data.decode()
        return self._child.wait(60)

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._master)


@contextmanager
def terminal(folder: Path, *words: str) -> Iterator[Terminal]:
    made = Terminal(folder, *words)
    try:
        yield made
    finally:
        made.close()
