"""The rendered command under real shells: a child that loads, serves, ends and gets SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qwenkit.manifests.render import as_documented, render
from qwenkit.settings import Settings

# As vLLM: no handler for SIGTERM while it loads, then one that finishes and ends with a status.
STAND_IN = """#!{python}
import os, signal, sys, time
def stop(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b"finished\\n")
    sys.exit(7)
if "loading" not in sys.argv:
    signal.signal(signal.SIGTERM, stop)
if "crash" in sys.argv:
    sys.exit(5)
os.write(1, " ".join([*sys.argv[1:], "\\n"]).encode())
time.sleep(30)
"""


@pytest.fixture(params=["dash", "bash", "sh"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    stand_in = tmp_path / "python3"
    stand_in.write_text(STAND_IN.format(python=sys.executable))
    stand_in.chmod(0o755)
    return str(request.param)


def start(shell: str, folder: Path, extra: str) -> subprocess.Popen[str]:
    container = render(Settings(extra_args=extra))[-1]["spec"]["template"]["spec"]["containers"][0]
    sh, *arguments = container["command"]
    assert sh == "sh"
    path = f"{folder}:{os.environ['PATH']}"
    return subprocess.Popen(
        [shell, *(word.replace("$$", "$") for word in arguments)],
        env={"PATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("extra", "times", "status", "said"),
    [("loading", 1, 143, ""), ("serving", 1, 7, "finished\n"), ("serving", 3, 7, "finished\n")],
)
def test_sigterm_reaches_the_server_and_its_status_comes_back(
    shell: str, tmp_path: Path, extra: str, times: int, status: int, said: str
) -> None:
    with start(shell, tmp_path, extra) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(f"{extra} \n")
        for _ in range(times):
            process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == said
        assert process.wait(timeout=20) == status


def test_a_server_that_ends_by_itself_ends_the_container_with_its_status(
    shell: str, tmp_path: Path
) -> None:
    with start(shell, tmp_path, "crash '$HOME $(id) & it is'") as process:
        assert process.wait(timeout=20) == 5


def test_arguments_come_to_the_server_as_they_are(shell: str, tmp_path: Path) -> None:
    odd = "a&b $HOME $(id) $! ;"
    with start(shell, tmp_path, f"--chat-template '{odd}' loading") as process:
        assert process.stdout is not None
        assert f"--chat-template {odd} loading" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143


def test_the_documentation_s_own_command_is_left_as_it_is() -> None:
    command = as_documented(Settings())["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[2].startswith("python3 -m vllm")
    assert "trap" not in command[2]
