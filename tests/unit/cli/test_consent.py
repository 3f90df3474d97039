"""``run`` and ``teardown`` ask before what another run made goes."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import pytest
from cluster_api import KSVC, OURS, Api, obj, serving, write_kubeconfig
from nbformat.v4 import new_code_cell, new_notebook
from places import ROOT

from qwenkit.cli.main import main

LAB = OURS | {"qwenkit.dev/run": "lab"}
READY: dict[str, Any] = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
Answer = tuple[int, str, str]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Return a cluster behind the context ``mine``, in which the run ``lab`` serves."""
    api = Api()
    with serving(api.app()) as url:
        path = write_kubeconfig(tmp_path / "config", url, context="mine")
        monkeypatch.setenv("KUBECONFIG", str(path))
        monkeypatch.setenv("QWENKIT_CONTEXT", "mine")
        monkeypatch.delenv("OSS_BUCKET", raising=False)
        api.add(obj(KSVC, "qwen", labels=LAB, **READY))
        api.add(obj("v1/PersistentVolumeClaim", "llm-model", labels=LAB, spec={}))
        api.add(obj("v1/ConfigMap", "theirs"))
        yield api


@pytest.fixture
def qwenkit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Return a function that runs a command without a terminal."""

    def run(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["qwenkit", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        code = main()
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def course(tmp_path: Path) -> tuple[str, ...]:
    """Return the options of a run of two notebooks that do nothing but the teardown at the end."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for name in ("00-first", "90-teardown"):
        cells = [new_code_cell("1 / 0", id="only")]
        nbformat.write(new_notebook(cells=cells, metadata=kernel), tmp_path / f"{name}.ipynb")
    return "run", "--notebooks", str(tmp_path), "--output", str(tmp_path / "runs")


def at_a_terminal(answer: bytes, *words: str) -> tuple[int, str]:
    """Run a command at a terminal, and type the answer to its question."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "qwenkit", *words]
    with subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as child:
        os.close(slave)
        text = b""
        while b"[y/N]" not in text:
            text += os.read(master, 4096)
        interrupts = answer == b"\x03"
        if not interrupts:
            os.write(master, answer)
        # A signal just before the read of a line does not end the read: a later one does.
        again, deadline = time.monotonic(), time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if select.select([master], [], [], 0.5)[0]:
                with suppress(OSError):  # the terminal closed
                    text += os.read(master, 4096)
            elif interrupts and time.monotonic() > again:
                again = time.monotonic() + 10
                child.send_signal(signal.SIGINT)
        child.kill()
        code = child.wait()
    with suppress(OSError):
        while select.select([master], [], [], 0)[0]:
            text += os.read(master, 4096)
    os.close(master)
    return code, text.decode()


def deletions(api: Api) -> int:
    return sum(method == "DELETE" for method, *_ in api.requests)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_without_a_terminal_names_what_is_there_and_yes(
    api: Api, qwenkit: Callable[..., Answer], course: tuple[str, ...], as_json: bool, tmp_path: Path
) -> None:
    code, out, err = qwenkit(*course, *["--json"] * as_json)
    assert code == 2
    for word in ("ksvc qwen of run 'lab', Ready", "pvc llm-model of run 'lab'", "--yes"):
        assert word in err
        assert not as_json or word in out
    if as_json:
        assert json.loads(out)["error"] == "ConsentNeeded"
    assert (deletions(api), len(api.objects)) == (0, 3)
    assert not (tmp_path / "runs").exists()


def test_a_run_with_yes_removes_that_first(
    api: Api, qwenkit: Callable[..., Answer], course: tuple[str, ...]
) -> None:
    code, _, err = qwenkit(*course, "--yes")
    assert code == 1
    assert "removed first: ksvc qwen: deleted" in err
    assert "the label of what it makes is run-20" in err
    assert [name for *_, name in api.objects] == ["theirs"]


@pytest.mark.parametrize("chosen", ["00", "00,90"])
def test_some_notebooks_go_on_with_what_this_shell_made(
    api: Api,
    qwenkit: Callable[..., Answer],
    course: tuple[str, ...],
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QWENKIT_RUN", "lab")
    code, _, err = qwenkit(*course, "--only", chosen)
    assert (code, "--yes" in err) == ((1, False) if chosen == "00" else (2, True))
    assert len(api.objects) == 3
    api.objects.pop((KSVC, "default", "qwen"))
    code, _, err = qwenkit(*course, "--only", chosen)
    assert code == 1
    assert "the label of what it makes is lab" in err
    assert len(api.objects) == (2 if chosen == "00" else 1)


def test_a_label_that_is_given_is_used(
    api: Api, qwenkit: Callable[..., Answer], course: tuple[str, ...], tmp_path: Path
) -> None:
    code, _, err = qwenkit(*course, "--set", "run=lab")
    assert code == 2
    assert "ksvc qwen of run 'lab', Ready" in err
    assert "pvc" not in err
    params = tmp_path / "params.yaml"
    params.write_text("run: lab\n")
    code, _, err = qwenkit(*course, "-p", str(params), "--yes")
    assert code == 1
    assert "removed first" not in err
    assert [name for *_, name in api.objects] == ["theirs"]


def test_teardown_without_a_terminal_names_the_run(
    api: Api, qwenkit: Callable[..., Answer]
) -> None:
    code, _, err = qwenkit("teardown")
    assert code == 2
    for word in ("ksvc qwen of run 'lab', Ready", "--yes", "--set run=lab"):
        assert word in err
    assert deletions(api) == 0


def test_teardown_with_yes_removes_both(api: Api, qwenkit: Callable[..., Answer]) -> None:
    api.add(obj("v1/Secret", "mine", labels=OURS))
    code, out, _ = qwenkit("teardown", "--yes", "--json")
    answer = json.loads(out)
    assert (code, set(answer)) == (0, {"removed", "leaks"})
    assert answer["leaks"] == {"found": [], "unknown": []}
    names = [step["name"] for step in answer["removed"]["steps"] if step["removed"]]
    assert names == ["ksvc qwen", "pvc llm-model", "secret mine"]
    assert [name for *_, name in api.objects] == ["theirs"]


def test_what_is_ones_own_needs_no_consent(api: Api, qwenkit: Callable[..., Answer]) -> None:
    assert qwenkit("teardown", "--set", "run=lab")[0] == 0
    assert [name for *_, name in api.objects] == ["theirs"]


def test_what_is_nobodys_is_never_touched(api: Api, qwenkit: Callable[..., Answer]) -> None:
    api.objects.clear()
    for kind, name in ((KSVC, "qwen"), ("v1/PersistentVolumeClaim", "llm-model")):
        api.add(obj(kind, name, spec={}))
    assert qwenkit("teardown", "--yes")[0] == 0
    assert len(api.objects) == 2


@pytest.mark.parametrize(
    ("answer", "code", "left"), [(b"y\n", 0, 1), (b"n\n", 1, 3), (b"\n", 1, 3), (b"\x03", 130, 3)]
)
def test_a_terminal_is_asked(api: Api, answer: bytes, code: int, left: int) -> None:
    ended, text = at_a_terminal(answer, "teardown")
    assert "ksvc qwen of run 'lab', Ready" in text
    assert ("nothing was changed" in text) == (code == 1)
    assert (ended, len(api.objects)) == (code, left)


def test_a_run_does_not_start_where_it_cannot_ask(
    api: Api, qwenkit: Callable[..., Answer], tmp_path: Path
) -> None:
    api.refuse = lambda *_: (401, {"kind": "Status", "message": "Unauthorized"})
    code, _, said = qwenkit("run", "--output", str(tmp_path / "runs"))
    assert (code, "log in again" in said) == (1, True)
    assert not (tmp_path / "runs").exists()
