"""The tuning panel in a real JupyterLab: every control usable, applied by a button, taken back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import lab
from playwright.sync_api import expect

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.live_scaling import live_scaling
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
        assert lab.faint(page, ".qwenkit-tuner") == [], "dark" if dark else "light"

    panel.get_by_role("button", name="Confirm").click()
    expect(panel).to_contain_text(f"{before.revision[:-1]}2 serves")
    assert running(sandbox, monkeypatch).spec.total == 2.5
    panel.get_by_role("button", name="Undo…").click()
    panel.get_by_role("button", name="Confirm").click()
    expect(panel).to_contain_text(f"{before.revision[:-1]}3 serves")
    assert running(sandbox, monkeypatch).spec == before.spec
