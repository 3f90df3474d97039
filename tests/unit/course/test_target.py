"""What a run stands on: which parameters reach a notebook, and how a run ends."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from cluster_api import Api, serving, write_kubeconfig
from nbformat.v4 import new_code_cell, new_notebook

from qwenkit.course import target as course_target
from qwenkit.course.interrupts import terminable
from qwenkit.course.record import MIME
from qwenkit.course.runner import CourseRun, find_notebooks, new_folder, run_course
from qwenkit.course.target import environment, exclusive, target
from qwenkit.errors import Conflict, InvalidValue, NotFound
from qwenkit.settings import Settings

SECRET = "an-access-key-secret-of-some-length"
CELL = "context: str = 'sandbox'\nnamespace: str = 'default'\nscale_timeout_s: float = 300.0\n"
SHOW = (
    "from IPython.display import display\n"
    "from qwenkit.settings import Settings\n"
    "s = Settings.of(globals())\n"
    "wanted = ('context', 'namespace', 'quantization', 'initial_scale', 'max_scale')\n"
    f"display({{'{MIME}': {{'waited': {{}}, 'result': "
    "{name: getattr(s, name) for name in wanted} | {'own': scale_timeout_s}}}, raw=True)"
)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Return a cluster behind the context ``mine``."""
    api = Api()
    with serving(api.app()) as url:
        path = write_kubeconfig(tmp_path / "config", url, context="mine")
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield api


def notebook(folder: Path, name: str, source: str) -> Path:
    parameters = new_code_cell(CELL, metadata={"tags": ["parameters"]}, id="parameters")
    cells = [parameters, new_code_cell(source, id="only")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / name
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return path


def one(tmp_path: Path, source: str) -> CourseRun:
    path = notebook(tmp_path, "04-shown.ipynb", source)
    return CourseRun((path,), tmp_path / "runs" / "1")


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every notebook fail before its kernel starts, which takes a second."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("Kernel didn't respond in 60 seconds\nmore")

    monkeypatch.setattr("papermill.execute_notebook", broken)


def test_what_is_set_anywhere_reaches_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QWENKIT_CONTEXT", "from-the-environment")
    monkeypatch.setenv("QWENKIT_NAMESPACE", "lost")
    monkeypatch.setenv("QWENKIT_INITIAL_SCALE", "2")
    # Papermill would use the first ``python3`` that it finds, here of an environment that is gone.
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text('{"argv": ["/gone/python"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    params = {"namespace": "given", "quantization": "", "initial_scale": None, "max_scale": 2}
    report = run_course(one(tmp_path, SHOW), Settings.load(**params))
    (result,) = report.notebooks
    assert result.passed, result.error
    assert result.result == {
        "context": "from-the-environment",
        "namespace": "given",
        "quantization": "",
        "initial_scale": None,
        "max_scale": 2,
        "own": 300.0,
    }
    assert os.environ["QWENKIT_INITIAL_SCALE"] == "2"


def test_a_failure_leaves_evidence_without_keys(
    tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", SECRET)
    event = {"apiVersion": "v1", "kind": "Event", "reason": "FailedMount"}
    event |= {"metadata": {"name": "e", "namespace": "default"}, "message": f"the key is {SECRET}"}
    api.add(event)
    report = run_course(one(tmp_path, "1 / 0"), Settings(context="mine"))
    assert report.notebooks[0].error == {
        "what": "ZeroDivisionError: division by zero",
        "cell": "only",
    }
    text = (report.folder / "evidence" / "README.txt").read_text("utf-8")
    assert "FailedMount ×1  None/None: the key is ***" in text
    assert report.problems == ()


def test_a_key_in_an_output_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", SECRET)
    leak = "import os\nprint(os.environ['OSS_ACCESS_KEY_SECRET'])\n" + SHOW
    report = run_course(one(tmp_path, leak), Settings(context="mine"))
    assert report.notebooks[0].passed
    assert report.problems == ("a secret was in 04-shown.ipynb; it is replaced by ***",)
    assert SECRET not in (report.folder / "04-shown.ipynb").read_text("utf-8")
    assert not report.ok


def test_a_second_run_is_refused_while_a_first_holds_the_folder(tmp_path: Path) -> None:
    made = one(tmp_path, SHOW)
    with (
        course_target.exclusive(tmp_path / "runs" / "0"),
        pytest.raises(Conflict, match="another run"),
    ):
        run_course(made, Settings(context="mine"))
    assert not made.folder.exists()


@pytest.mark.usefixtures("no_kernel")
def test_a_run_leaves_alone_what_a_person_has_beside_its_folder(tmp_path: Path) -> None:
    made = one(tmp_path, SHOW)
    beside = made.folder.parent
    (beside / ".tmp").mkdir(parents=True)
    mine = [beside / name for name in (".tmp/notes", ".pid", ".lock")]
    for path in mine:
        path.write_text("precious")
    run_course(made, Settings(context="mine"))
    assert [path.read_text() for path in mine] == ["precious"] * 3


def test_another_target_starts_no_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said: list[str] = []
    with target(Settings(context="mine"), said.append):
        assert list(tmp_path.iterdir()) == []
    assert said == []


def test_parameters_arrive_as_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QWENKIT_INITIAL_SCALE", "3")
    given = {
        "delete_weights": True,
        "max_scale": 2,
        "scale_target": 1.5,
        "stable_window": "10s",
        "quantization": "",
        "initial_scale": None,
        "prompt": "杭州 西湖",
    }
    with environment(Settings(**given), tmp_path):
        found = Settings()
        assert {name: getattr(found, name) for name in given} == given
    assert os.environ["QWENKIT_INITIAL_SCALE"] == "3"
    assert "QWENKIT_PROMPT" not in os.environ


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_it_interrupts_and_no_more(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), terminable():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_says_which_notebook_it_hit(tmp_path: Path) -> None:
    stop = "import os, signal, time\nos.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(60)"
    paths = tuple(notebook(tmp_path, f"0{n}-x.ipynb", stop) for n in (1, 2))
    report = run_course(CourseRun(paths, tmp_path / "runs" / "1"), Settings(context="mine"))
    assert report.interrupted
    rest = {"what": "not run", "why": "the run was interrupted"}
    assert [n.error for n in report.notebooks] == [{"what": "interrupted"}, rest]
    assert [n.skipped for n in report.notebooks] == [False, True]
    assert report.settings["context"] == "mine"


def test_an_error_of_ours_is_taken_apart(tmp_path: Path) -> None:
    raises = (
        "from qwenkit.errors import NotReady\n"
        "raise NotReady('qwen is not ready', 'no GPU', 'free one', evidence=['3 of 3 taken'])"
    )
    (failed,) = run_course(one(tmp_path, raises), Settings(context="mine")).notebooks
    assert failed.error == {
        "what": "NotReady: qwen is not ready",
        "why": "no GPU\n3 of 3 taken",
        "fix": "free one",
        "cell": "only",
    }


@pytest.mark.usefixtures("no_kernel")
def test_whatever_breaks_is_reported_though_the_cluster_is_away(tmp_path: Path) -> None:
    report = run_course(one(tmp_path, SHOW), Settings(context="mine"))
    assert report.notebooks[0].error == {
        "what": "RuntimeError: Kernel didn't respond in 60 seconds"
    }
    assert "not reached" in (report.folder / "evidence" / "README.txt").read_text("utf-8")
    assert not report.ok


@pytest.mark.usefixtures("no_kernel")
def test_a_teardown_without_a_bucket_still_clears_the_cluster(tmp_path: Path, api: Api) -> None:
    meta = {"name": "qwen", "namespace": "default", "labels": Settings().labels}
    api.add({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": meta})
    path = notebook(tmp_path, "90-teardown.ipynb", SHOW)
    report = run_course(CourseRun((path,), tmp_path / "runs" / "1"), Settings(context="mine"))
    assert api.get("Service", "qwen") is None
    assert report.leaks is not None
    assert report.leaks.found == ()
    (problem,) = report.problems
    assert problem.startswith("teardown: the bucket was left as it is: bucket")


def test_a_shell_that_repeats_the_hangup_does_not_stop_the_cleaning_up() -> None:
    with terminable():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)


def test_a_folder_for_the_reports_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("a" * 300)):
        with pytest.raises(InvalidValue, match="output"), exclusive(new_folder(output)):
            pass
    with pytest.raises(NotFound, match="no notebooks"):
        find_notebooks(tmp_path / ("a" * 300))
