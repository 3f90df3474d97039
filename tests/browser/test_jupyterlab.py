"""The tuning panel in a real JupyterLab: every control usable, applied by a button, taken back.

One sandbox, one JupyterLab and one page serve all tests of this file.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import lab
import pytest
from playwright.sync_api import expect

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.live_scaling import live_scaling
from qwenkit.sandbox import process, state_files
from qwenkit.settings import Settings

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# Every control and text of the panel that does not lie within the panel and the page, or that
# something else covers where it would be clicked.
OUTSIDE = """() => {
  const panel = document.querySelector('.qwenkit-tuner').getBoundingClientRect(), bad = []
  const parts = '.widget-slider, .widget-readout, .noUi-handle, label, select, button, table, svg'
  for (const part of document.querySelectorAll(`.qwenkit-tuner :is(${parts})`)) {
    part.scrollIntoView({block: 'center'})
    const box = part.getBoundingClientRect(), name = `${part.className} ${part.textContent}`
    if (!box.width) continue
    const inside = box.left >= panel.left - 1 && box.right <= Math.min(panel.right + 1, innerWidth)
    if (!inside || part.scrollWidth > part.clientWidth + 1 && part.matches('label, button'))
      bad.push(`outside or cut: ${name}`)
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)
    if (part.matches('.noUi-handle, select, button') && !part.contains(top) && !top?.contains(part))
      bad.push(`covered: ${name}`)
  }
  return bad
}"""
# The words of the panel whose contrast with what is behind them is below 4.5.
FAINT = """() => {
  const rgb = text => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number)
  const light = ([r, g, b]) => [[r, .2126], [g, .7152], [b, .0722]].reduce((sum, [c, share]) =>
    sum + share * (c / 255 <= .03928 ? c / 3294.6 : ((c / 255 + .055) / 1.055) ** 2.4), 0)
  const behind = part => {
    for (; part; part = part.parentElement) {
      const color = rgb(getComputedStyle(part).backgroundColor)
      if (color.length < 4 || color[3]) return color
    }
    return [255, 255, 255]
  }
  const bad = []
  for (const part of document.querySelectorAll('.qwenkit-tuner *')) {
    const own = [...part.childNodes].some(node => node.nodeType === 3 && node.data.trim())
    const shown = part.getClientRects().length && !part.disabled
    if (!own || !shown || part.matches('style, title, tspan')) continue
    const style = getComputedStyle(part), drawn = part.closest('svg'), over = behind(part)
    const color = rgb(drawn ? style.fill : style.color), seen = drawn ? +style.fillOpacity : 1
    const mixed = color.slice(0, 3).map((c, i) => c * seen + over[i] * (1 - seen))
    const [dark, bright] = [light(mixed), light(over)].sort((a, b) => a - b)
    const ratio = (bright + .05) / (dark + .05)
    if (ratio < 4.5) bad.push(`${ratio.toFixed(1)}: ${part.tagName} ${part.textContent.trim()}`)
  }
  return bad
}"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """Return the environment of a sandbox in which the service runs."""
    root = tmp_path_factory.mktemp("sandbox") / "root"
    process.up(root, state_files.SandboxOptions(time_scale=20))
    try:
        environment = os.environ | process.environment(root)
        source = "modelscope:qwen/Qwen-7B-Chat-Int8"
        target = f"oss://{environment['OSS_BUCKET']}/Qwen-7B-Chat-Int8"
        for words in (("upload", source, target), ("deploy",)):
            subprocess.run([sys.executable, "-m", "qwenkit", *words], env=environment, check=True)
        yield environment
    finally:
        process.down(root)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder that JupyterLab serves."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def address(folder, sandbox):
    """Serve the folder in JupyterLab; a notebook's name is added to this address."""
    with lab.jupyterlab(folder, sandbox) as address:
        yield address


@pytest.fixture(scope="module")
def page():
    with lab.chromium() as page:
        yield page


def copy_until(folder, name, last):
    """Copy a notebook of the course into the folder, up to a cell."""
    notebook = json.loads((NOTEBOOKS / name).read_text("utf-8"))
    ids = [cell["id"] for cell in notebook["cells"]]
    notebook["cells"] = notebook["cells"][: ids.index(last) + 1]
    (folder / name).write_text(json.dumps(notebook), "utf-8")


def running(sandbox, monkeypatch):
    """Return how the service scales now, as the cluster says."""
    for name, value in sandbox.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster.connect(Settings())
    try:
        return live_scaling(cluster, Settings().service)
    finally:
        cluster.close()


def test_the_panel_is_usable_at_every_width_and_applies_and_takes_back(
    folder, address, page, sandbox, monkeypatch, tmp_path
):
    copy_until(folder, "05-autoscaling.ipynb", "choice")
    before = running(sandbox, monkeypatch)
    lab.run_all(page, f"{address}05-autoscaling.ipynb")
    panel = page.locator(".qwenkit-tuner")
    target = panel.get_by_role("slider", name="target", exact=True)
    target.focus()
    page.keyboard.press("ArrowRight")
    expect(panel.locator("table", has_text="effective target")).to_contain_text("1.75")
    panel.get_by_label("traffic").select_option("a burst every 5 minutes")
    expect(panel.locator("svg")).to_have_attribute("aria-label", re.compile("requests in flight"))

    panel.get_by_role("button", name="Apply…").click()
    expect(panel).to_contain_text(f"{before.revision[:-1]}2 will follow {before.revision}")
    expect(panel).to_contain_text("New pods: 1. GPUs: 1 needed, 2 of 3 free.")
    assert running(sandbox, monkeypatch).spec == before.spec
    for dark in (False, True):
        lab.set_theme(page, dark=dark)
        for width in (1440, 1024, 700, 1600):
            page.set_viewport_size({"width": width, "height": 1000})
            page.wait_for_timeout(100)  # until JupyterLab has laid its columns out anew
            assert page.evaluate(OUTSIDE) == [], f"{width} px"
            page.screenshot(path=tmp_path / f"panel-{width}-{'dark' if dark else 'light'}.png")
        assert page.evaluate(FAINT) == [], "dark" if dark else "light"

    panel.get_by_role("button", name="Confirm").click()
    expect(panel).to_contain_text(f"{before.revision[:-1]}2 serves")
    assert running(sandbox, monkeypatch).spec.total == 2.5
    panel.get_by_role("button", name="Undo…").click()
    panel.get_by_role("button", name="Confirm").click()
    expect(panel).to_contain_text(f"{before.revision[:-1]}3 serves")
    assert running(sandbox, monkeypatch).spec == before.spec
