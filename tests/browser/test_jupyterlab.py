"""Notebook 05 in a real JupyterLab: it has the sandbox's settings, and its panel answers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from qwenkit.sandbox import process, state_files

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# Without a display, without a sandbox of its own (CI runs as root), and without calls home.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def sandbox(tmp_path):
    """Return the environment of a sandbox with T4 GPUs in which the service runs."""
    root = tmp_path / "sandbox"
    process.up(root, state_files.SandboxOptions(gpu="T4", time_scale=20))
    try:
        environment = os.environ | process.environment(root)
        source = "modelscope:qwen/Qwen-7B-Chat-Int8"
        target = f"oss://{environment['OSS_BUCKET']}/Qwen-7B-Chat-Int8"
        for words in (("upload", source, target), ("deploy",)):
            subprocess.run([sys.executable, "-m", "qwenkit", *words], env=environment, check=True)
        yield environment
    finally:
        process.down(root)


@pytest.fixture
def lab(tmp_path, sandbox):
    """Serve a copy of notebook 05, up to the panel, in JupyterLab."""
    notebook = json.loads((NOTEBOOKS / "05-autoscaling.ipynb").read_text("utf-8"))
    ids = [cell["id"] for cell in notebook["cells"]]
    notebook["cells"] = notebook["cells"][: ids.index("choice") + 1]
    (tmp_path / "panel.ipynb").write_text(json.dumps(notebook), "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=for-the-test"]
    command += [f"--notebook-dir={tmp_path}", f"--LabApp.user_settings_dir={tmp_path / 'settings'}"]
    command += [f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}", "--LabApp.news_url="]
    home = {"HOME": str(tmp_path), "JUPYTER_PREFER_ENV_PATH": "1"}
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=sandbox | home, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(f"{base}/api"), server, tmp_path / "lab.log")
        yield f"{base}/lab/tree/panel.ipynb?token=for-the-test&reset"
    finally:
        server.terminate()
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:  # it waits for ever for a kernel that was just starting
            server.kill()
            server.wait()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_for(condition, server, log, timeout_s=300):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert server.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


@pytest.fixture
def page():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "this test needs Chromium (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1024, "height": 1000})
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield page
        browser.close()


def test_the_panel_answers_a_slider(lab, page, tmp_path):
    page.goto(lab)
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    # A cell run before its kernel is there opens a dialog instead.
    expect(page.locator(".jp-StatusBar-Widget")).to_contain_text("| Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()

    settings = page.locator(".jp-OutputArea-output", has_text="setting ")
    expect(settings).to_contain_text("the environment (QWENKIT_GPU)")
    panel = page.locator(".jp-OutputArea-output", has_text="effective target 1.4:")
    expect(panel).to_be_visible()
    boxes = [slider.bounding_box() for slider in page.locator(".widget-slider").all()]
    assert len(boxes) == 6
    assert all(box["x"] + box["width"] <= 1024 for box in boxes), "a slider is outside the page"
    target = page.locator(".widget-slider", has_text="target").first
    expect(target.locator(".widget-readout")).to_have_text("2.00")
    handle = target.locator(".noUi-handle").first
    handle.focus()
    page.keyboard.press("ArrowRight")
    answered = page.locator(".jp-OutputArea-output", has_text="effective target 1.75:")
    expect(answered).to_be_visible()
    expect(answered.locator("svg").first).to_be_visible()
    page.screenshot(path=tmp_path / "panel.png")
