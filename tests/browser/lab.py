"""JupyterLab on a folder of notebooks, and a headless Chromium to look at it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

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
# No question about news, and all cells in the page at once, to be read.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false"},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
# The words of a part whose contrast with what is behind them is below 4.5.
_FAINT = """root => {
  const rgb = text => {
    const parts = (text.match(/[\\d.]+(e-\\d+)?/g) ?? [0, 0, 0, 0]).map(Number)
    return text.startsWith('color(') ? parts.map((c, i) => i < 3 ? c * 255 : c) : parts
  }
  const light = ([r, g, b]) => [[r, .2126], [g, .7152], [b, .0722]].reduce((sum, [c, share]) =>
    sum + share * (c / 255 <= .03928 ? c / 3294.6 : ((c / 255 + .055) / 1.055) ** 2.4), 0)
  const mixed = (color, under, seen = color[3] ?? 1) =>
    color.slice(0, 3).map((c, i) => c * seen + under[i] * (1 - seen))
  const behind = part => {
    const color = part ? rgb(getComputedStyle(part).backgroundColor) : [255, 255, 255]
    return (color[3] ?? 1) === 1 ? color : mixed(color, behind(part.parentElement))
  }
  const bad = []
  for (const part of document.querySelectorAll(root.split(',').map(one => `${one} *`).join())) {
    const own = [...part.childNodes].some(node => node.nodeType === 3 && node.data.trim())
    const shown = part.getClientRects().length && !part.disabled
    if (!own || !shown || part.matches('style, title, tspan')) continue
    if (part.matches('.jp-MarkdownOutput pre span')) continue  // the theme's own
    const style = getComputedStyle(part), drawn = part.closest('svg'), over = behind(part)
    const color = rgb(drawn ? style.fill : style.color)
    const seen = (color[3] ?? 1) * (drawn ? +style.fillOpacity : 1)
    const [dark, bright] = [light(mixed(color, over, seen)), light(over)].sort((a, b) => a - b)
    const ratio = (bright + .05) / (dark + .05)
    if (ratio < 4.5) bad.push(`${ratio.toFixed(1)}: ${part.tagName} ${part.textContent.trim()}`)
  }
  return bad
}"""


_NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden)"
# What is ours in a notebook: prose and outputs.
OURS = f"{_NOTEBOOK} .jp-MarkdownOutput, {_NOTEBOOK} .jp-OutputArea-output"
_FAILED = "[data-mime-type='application/vnd.jupyter.error']"
_FINISHED = f"""() => {{
  const prompts = [...document.querySelectorAll('{_NOTEBOOK} .jp-CodeCell .jp-InputPrompt')]
  return document.querySelector("{_FAILED}") || prompts.every(each => /\\d/.test(each.innerText))
}}"""
_LAID_OUT = f"""() => {{
  const right = document.querySelector('{_NOTEBOOK}').getBoundingClientRect().right
  return right <= innerWidth && right > innerWidth - 60
}}"""
# What a person could not read or use: the parts by name.
_HIDDEN = """ours => {
  const bad = [], wide = part => part.clientWidth && part.scrollWidth > part.clientWidth + 1
  const told = part => `${part.tagName} ${part.className} ${part.textContent.trim().slice(0, 80)}`
  if (document.documentElement.scrollWidth > innerWidth) bad.push('the page is too wide')
  for (const root of document.querySelectorAll(ours)) {
    const around = root.getBoundingClientRect()
    if (wide(root)) bad.push(`scrolls sideways: ${told(root)}`)
    for (const part of root.querySelectorAll('button, label, select, input, td, th, pre'))
      if (wide(part) && getComputedStyle(part).display !== 'inline') bad.push(`cut: ${told(part)}`)
    for (const part of root.querySelectorAll('button, select, input, .noUi-handle')) {
      const box = part.getBoundingClientRect()
      if (box.width && (box.left < around.left - 1 || box.right > around.right + 1))
        bad.push(`outside its output: ${told(part)}`)
    }
    for (const part of root.querySelectorAll('svg text')) {
      const box = part.getBoundingClientRect(), svg = part.closest('svg').getBoundingClientRect()
      if (box.left < svg.left - 1 || box.right > svg.right + 1) bad.push(`cut: ${told(part)}`)
    }
    for (const part of root.querySelectorAll('img:not([hidden])'))
      if (!part.complete || !part.naturalWidth || !part.alt) bad.push(`no picture: ${part.src}`)
    if (/Error displaying widget|Loading widget|Javascript Error/.test(root.innerText))
      bad.push(`no widget: ${told(root)}`)
  }
  return bad
}"""


@contextmanager
def jupyterlab(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Serve the notebooks of a folder; yield an address to which a notebook's name is added."""
    for name, values in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token="]
    command += [f"--notebook-dir={folder}", f"--LabApp.user_settings_dir={folder / 'settings'}"]
    command += [f"--LabApp.workspaces_dir={folder / 'workspaces'}", "--LabApp.news_url="]
    command.append("--LabApp.expose_app_in_browser=True")  # to change the theme
    home = {"HOME": str(folder), "JUPYTER_PREFER_ENV_PATH": "1", "LC_ALL": "C.UTF-8"}
    home["QWENKIT_LANG"] = ""  # the notebook's folder decides
    log = folder / "lab.log"
    with log.open("w") as out:
        server = subprocess.Popen(command, env={**environment, **home}, stdout=out, stderr=out)
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while not _answers(f"{base}/api"):
            assert server.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)
        yield f"{base}/lab/tree/"
    finally:
        server.terminate()
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:  # it waits for ever for a kernel that was just starting
            server.kill()
            server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def chromium(width: int = 1024, height: int = 1000, **more: Any) -> Iterator[Page]:
    """Open a page of a headless Chromium; ``more`` is for Playwright's ``new_page``."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "this needs Chromium (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height}, **more)
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield page
        browser.close()


def run_all(page: Page, address: str) -> None:
    """Open a notebook and run all of its cells."""
    page.goto(f"{address}?reset")
    run_cells(page)


def run_cells(page: Page) -> None:
    """Run all cells of the notebook that was just opened."""
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    # A cell run before its kernel is there opens a dialog instead.
    expect(page.locator(".jp-StatusBar-Widget")).to_contain_text("| Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()


def finish(page: Page, *, timeout_s: float = 300) -> dict[str, Any]:
    """Wait until all cells have run; return the notebook with its outputs.

    Raises:
        AssertionError: a cell failed; with what it says.
    """
    page.wait_for_function(_FINISHED, timeout=timeout_s * 1000)
    failed = page.locator(_FAILED)
    assert failed.count() == 0, failed.first.inner_text()
    expect(page.locator(".jp-StatusBar-Widget")).to_contain_text("| Idle")
    found = page.evaluate("() => jupyterapp.shell.currentWidget.content.model.toJSON()")
    return dict(found)


def end_kernels(page: Page) -> None:
    """End all kernels of the server."""
    page.evaluate("() => jupyterapp.serviceManager.sessions.shutdownAll()")


def set_width(page: Page, width: int) -> None:
    """Change the window's width and wait until JupyterLab has laid out its columns anew."""
    page.set_viewport_size({"width": width, "height": 1000})
    page.wait_for_function(_LAID_OUT)


def hidden(page: Page) -> list[str]:
    """Return what of prose and outputs a person could not read or use: cut, outside, not there."""
    return list(page.evaluate(_HIDDEN, OURS))


def set_theme(page: Page, *, dark: bool) -> None:
    """Change JupyterLab's theme and wait until the page has its colours."""
    name = "JupyterLab Dark" if dark else "JupyterLab Light"
    change = "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})"
    page.evaluate(change, name)
    page.locator(f"body[data-jp-theme-name='{name}']").wait_for(state="attached")
    page.locator("#jupyterlab-splash").wait_for(state="detached")  # it covers the page meanwhile


def one_cell(code: str) -> dict[str, object]:
    """Return a notebook of one cell."""
    cell = {"cell_type": "code", "id": "one", "metadata": {}, "outputs": [], "source": code}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {
        "cells": [cell | {"execution_count": None}],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def faint(page: Page, root: str) -> list[str]:
    """Return the words below a CSS selector that are hard to read."""
    return list(page.evaluate(_FAINT, root))
