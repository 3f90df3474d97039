"""``qwenkit init``: five answers, a params file, doctor."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cluster_api import Api, obj, serving, write_kubeconfig
from places import ROOT

from qwenkit.cli import main
from qwenkit.settings import Settings

OSS = {"drivers": [{"name": "ossplugin.csi.alibabacloud.com", "nodeID": "i-1"}]}
Answer = tuple[int, str]


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


@pytest.fixture
def api() -> Api:
    """A cluster of A10s that can mount buckets."""
    found = Api()
    gpus = {"allocatable": {"nvidia.com/gpu": "2"}}
    labels = {"aliyun.accelerator/nvidia_name": "NVIDIA-A10"}
    found.add(obj("v1/Node", "gpu-1", labels=labels, status=gpus))
    found.add(obj("storage.k8s.io/v1/CSINode", "gpu-1", spec=OSS))
    return found


@pytest.fixture(autouse=True)
def here(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, in which ``mine`` and ``production`` are known."""
    with serving(api.app()) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "c", url, context="mine")))
        monkeypatch.setenv("OSS_BUCKET", "my-bucket")
        folder = tmp_path / "here"
        folder.mkdir()
        monkeypatch.chdir(folder)
        yield folder


@pytest.fixture
def init(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Run the command with lines on its standard input; return what it shows."""

    def run(lines: str, *words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["qwenkit", "init", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        code, shown = main.main(), capsys.readouterr()
        return code, shown.out + shown.err

    return run


def given(path: str = "qwenkit.yaml") -> dict[str, Any]:
    return {name: value for name, (value, _) in Settings.load(Path(path)).given.items()}


def test_five_answers_at_a_terminal_and_wrong_ones_are_asked_again(here: Path) -> None:
    with terminal(here, "init", "mine.yaml") as screen:
        for question, wrong, reason, right in (
            ("1/5 Target", "staging", "must be one of sandbox, mine, production", "mine"),
            ("2/5 Model", "Qwen99", "neither a folder here nor a model we know", "Qwen3-8B"),
            ("3/5 GPU [A10]", "A1000", "RTX-4090", "rtx 4090"),
            ("4/5 OSS bucket [my-bucket]", "My_Bucket", "must be 3 to 63 of a-z", ""),
            ("5/5 Namespace [default]", "?", "Kubernetes namespace", "team-a"),
        ):
            screen.expect(question)
            screen.type(wrong)
            assert reason in screen.expect(question.partition(" [")[0])
            screen.type(right)
        screen.expect("qwenkit doctor -p mine.yaml")
        assert screen.wait() == 1  # there are no keys
    assert "fail     credentials" in screen.shown
    assert given("mine.yaml") == {
        "context": "mine",
        "model_source": "modelscope:Qwen/Qwen3-8B",
        "gpu": "RTX-4090",
        "bucket": "my-bucket",
        "namespace": "team-a",
    }
    assert "# Kubernetes namespace\nnamespace: " in (here / "mine.yaml").read_text()


def test_an_interrupt_leaves_nothing(here: Path) -> None:
    with terminal(here, "init") as screen:
        screen.expect("1/5 Target")
        screen.type("mine")
        screen.expect("2/5 Model [modelscope:qwen/Qwen-7B-Chat-Int8]:")
        screen.interrupt()
        assert screen.wait() == 130
    assert list(here.iterdir()) == []


def test_lines_on_the_standard_input_are_answers(init: Callable[..., Answer]) -> None:
    code, shown = init("mine\n" + "\n" * 4)
    assert code == 1
    assert given()["gpu"] == "A10"
    assert (Path("qwenkit.yaml").read_text() in shown, "fail     credentials" in shown) == (
        True,
        True,
    )


def test_input_that_ends_leaves_nothing(init: Callable[..., Answer], here: Path) -> None:
    code, shown = init("mine\nQwen3-8B\n")
    assert (code, "3/5 GPU: no answer" in shown) == (2, True)
    assert list(here.iterdir()) == []


def test_a_file_is_replaced_only_with_consent(init: Callable[..., Answer], here: Path) -> None:
    (here / "qwenkit.yaml").write_text("max_scale: 9\n")
    code, shown = init("mine\n" + "\n" * 4)
    assert (code, "--yes" in shown) == (2, True)
    with terminal(here, "init") as screen:
        screen.expect("Replace it at the end?")
        screen.type("n")
        assert screen.wait() == 1
    assert given() == {"max_scale": 9}
    assert init("", "--yes")[0] == 1
    assert given()["context"] == "sandbox"
    assert init("", "/no/such/folder/x.yaml")[0] == 2


def test_a_file_that_cannot_be_written_is_told_before_any_question(
    init: Callable[..., Answer],
) -> None:
    code, shown = init("mine\n" + "\n" * 4, "/proc/self/qwenkit.yaml")
    assert (code, "cannot be written" in shown, "1/5" in shown) == (2, True, False)


def test_a_folder_that_holds_no_model_is_asked_again(
    init: Callable[..., Answer], here: Path
) -> None:
    (here / "empty").mkdir()
    _, shown = init("mine\nempty\nQwen3-8B\n" + "\n" * 3)
    assert "'empty' is not valid: is a folder without a config.json" in shown
    assert given()["model_source"] == "modelscope:Qwen/Qwen3-8B"


def test_a_cluster_without_gpu_and_oss_driver_gets_a_claim(
    api: Api, init: Callable[..., Answer]
) -> None:
    del api.objects["storage.k8s.io/v1/CSINode", "", "gpu-1"]
    api.add(obj("v1/Node", "gpu-1", status={"allocatable": {"cpu": "4"}}))
    code, shown = init("mine\n" + "\n" * 3)
    assert (code, "no driver that mounts OSS" in shown) == (1, True)
    found = given()
    assert (found["gpu_count"], found["storage"]) == (0, "pvc")
    assert not {"gpu", "bucket"} & found.keys()


def test_without_a_bucket_there_is_no_default(
    init: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.delenv("OSS_BUCKET")
    assert "bucket: '' is not valid: must be given" in init("mine\n" + "\n" * 3 + "\nb-1\n\n")[1]
    assert given()["bucket"] == "b-1"
    monkeypatch.setenv("QWENKIT_CONTEXT", "mine")
    code, _ = init("", "--yes", "other.yaml")
    assert (code, (here / "other.yaml").exists()) == (2, False)
