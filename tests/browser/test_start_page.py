"""``qwenkit lab`` as a person uses it: its own sandbox and kernel, the start page, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lab
import pytest
from playwright.sync_api import Page, expect

from qwenkit.sandbox import process, state_files

QWENKIT = [sys.executable, "-m", "qwenkit"]
WIDER = "document.documentElement.scrollWidth > innerWidth"


@dataclass(frozen=True)
class Lab:
    home: Path
    child: subprocess.Popen[str]
    output: Path

    @property
    def address(self) -> str:
        """Wait for the address that it prints."""
        deadline = time.monotonic() + 300
        while True:
            text = self.output.read_text()
            if found := re.search(r"^lab: (\S+)$", text, re.MULTILINE):
                return found[1]
            assert self.child.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.1)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.address.replace("/qwenkit?", f"/{path}?")) as answer:
            return str(answer.read().decode())

    def root(self, name: str = "sandbox") -> Path:
        return self.home / ".qwenkit" / name


def start(home: Path, output: Path, *options: str, language: str = "en") -> Lab:
    # JupyterLab reads its settings from HOME; this one has a python3 of another environment.
    kernel = home / ".local/share/jupyter/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_text('{"argv": ["/gone"], "display_name": "elsewhere", "language": "python"}')
    env = os.environ | {"HOME": str(home), "QWENKIT_LANG": language}
    with output.open("w") as out:
        child = subprocess.Popen(
            [*QWENKIT, "lab", "--no-browser", "--port", "0", *options],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            text=True,
        )
    return Lab(home, child, output)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start a lab where another sandbox of the same user runs."""
    home = tmp_path_factory.mktemp("home")
    process.up(home / ".qwenkit" / "sandbox")
    made = start(home, home / "log")
    try:
        yield made
    finally:
        made.child.kill()
        made.child.wait()
        process.down(made.root())
        process.down(made.root("sandbox-2"))


def test_it_has_a_sandbox_of_its_own_with_a_label_of_its_own(beside: Lab) -> None:
    assert beside.address
    assert f"not the sandbox under {beside.root()} of user" in beside.output.read_text()
    theirs, own = (process.environment(beside.root(name)) for name in ("sandbox", "sandbox-2"))
    assert theirs["QWENKIT_RUN"] != own["QWENKIT_RUN"]
    assert theirs["KUBECONFIG"] != own["KUBECONFIG"]
    assert own["QWENKIT_RUN"] in beside.get("qwenkit")


def test_its_kernel_is_this_environment_s_and_it_asks_nothing(beside: Lab) -> None:
    found = json.loads(beside.get("api/kernelspecs"))["kernelspecs"]
    assert [*found] == ["python3"]
    assert found["python3"]["spec"]["display_name"] != "elsewhere"
    page = re.search(r'"disabledExtensions": (\[.*?\])', beside.get("lab"))
    assert page
    assert "@jupyterlab/apputils-extension:announcements" in json.loads(page[1])


def test_a_run_in_its_shell_says_whose_sandbox_it_is(beside: Lab, tmp_path: Path) -> None:
    assert beside.address
    root = beside.root("sandbox-2")
    done = subprocess.run(
        [*QWENKIT, "run", "--output", str(tmp_path / "runs"), "--json"],
        env=os.environ | process.environment(root),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)["error"]) == (2, "ConsentNeeded")
    whose = f"the sandbox under {root} of user {root.owner()} and the lab of process"
    for words in (f"{whose} {beside.child.pid}", "--yes", "has one of its own"):
        assert words in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_faults_of_its_shell_are_its_sandbox_s(beside: Lab) -> None:
    assert beside.address
    env = os.environ | process.environment(beside.root("sandbox-2"))
    asked = [*QWENKIT, "sandbox", "status", "--json"]
    done = subprocess.run(asked, env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["api"] == state_files.running(beside.root("sandbox-2")).api


def test_the_start_page_shows_the_course_and_resets(
    beside: Lab, page: Page, tmp_path: Path
) -> None:
    page.goto(beside.address)
    expect(page.locator("tbody tr")).to_have_count(9)
    expect(page.locator("main")).to_contain_text(f"the lab of process {beside.child.pid}")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (1440, 1024, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert not page.evaluate(WIDER), f"{width} px"
            page.screenshot(path=tmp_path / f"start-{width}-{scheme}.png", full_page=True)
        assert lab.faint(page, "body") == [], scheme
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="reset chapter 00").click()
    expect(page.get_by_role("status")).to_contain_text("chapter 00 can begin")
    assert page.locator("tbody a").first.get_attribute("href") == "lab/tree/00-preflight.ipynb"


def test_ctrl_c_ends_it_and_its_sandbox_but_no_other(beside: Lab) -> None:
    assert beside.address
    beside.child.send_signal(signal.SIGINT)
    assert beside.child.wait(timeout=60) == 0
    assert not beside.root("sandbox-2").exists()
    assert state_files.find(beside.root())


def test_a_wrong_option_is_wrong_use(tmp_path: Path) -> None:
    made = start(tmp_path, tmp_path / "log", "--nonsense")
    assert made.child.wait(timeout=60) == 2
    assert not made.root().exists()


@pytest.mark.long
def test_the_exit_code_is_jupyterlab_s(tmp_path: Path) -> None:
    made = start(tmp_path, tmp_path / "log", "--ip", "203.0.113.1")  # no address of this machine
    assert made.child.wait(timeout=120) == 1
    assert not made.root().exists()


@pytest.mark.long
def test_labs_that_start_at_once_share_nothing(tmp_path: Path, page: Page) -> None:
    labs = [start(tmp_path, tmp_path / lang, language=lang) for lang in ("en", "zh")]
    try:
        assert labs[0].address != labs[1].address
        names = ("sandbox", "sandbox-2")
        labels = {process.environment(labs[0].root(name))["QWENKIT_RUN"] for name in names}
        assert len(labels) == 2
        assert {label for one in labs for label in labels if label in one.get("qwenkit")} == labels
        page.goto(labs[1].address)
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        expect(page.locator("h2").first).to_have_text("各章")
        again = start(tmp_path, tmp_path / "log", "--root", str(labs[0].root()))
        assert again.child.wait(timeout=60) == 1
        assert "a lab already uses the sandbox" in again.output.read_text()
    finally:
        for one in labs:
            one.child.terminate()
            one.child.wait(timeout=60)
    assert not any(labs[0].root(name).exists() for name in names)
