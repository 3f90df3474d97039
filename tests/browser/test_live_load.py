"""A load in a real JupyterLab: its figures move in place, and its button works in a busy kernel."""

from __future__ import annotations

import json

import lab
import pytest
from playwright.sync_api import expect

START = """
from qwenkit.capacity.simulation.traffic import ClosedLoop
from qwenkit.cluster.client import Cluster
from qwenkit.inference.load.running import start_load
from qwenkit.loadtest.running import LoadTest
from qwenkit.settings import Settings
from qwenkit.steps import find_server
from qwenkit.widgets.live_load import LiveLoad

s = Settings(max_scale=3)
server = find_server(s)
traffic = ClosedLoop(((0, 4), (600, 0)))
test = LoadTest(Cluster.connect(s), s.service, lambda: start_load(server, traffic, max_tokens=64))
LiveLoad(test, s)
"""
WAIT = "seen = test.result(at_most=0, timeout_s=600)\nprint(seen.load.seconds < 600, 'measured')"
# Counts the states that the view shows, and the places at which its button is.
OBSERVE = """() => {
  const box = document.querySelector('.jupyter-widgets.widget-vbox')
  window.states = new Set(), window.places = new Set()
  new MutationObserver(() => {
    const top = part => part.getBoundingClientRect().top
    states.add(box.querySelector('.qwenkit-live').textContent)
    places.add(top(box.querySelector('button')) - top(box))
  }).observe(box, {subtree: true, childList: true, characterData: true})
}"""
INSIDE = """() => {
  const view = document.querySelector('.qwenkit-live'), around = view.parentElement
  const right = view.getBoundingClientRect().right
  return right <= innerWidth && around.scrollWidth <= around.clientWidth
}"""


@pytest.fixture
def notebook(folder):
    """Write a notebook that loads, and waits in the next cell."""
    made = lab.one_cell(START)
    made["cells"].append(made["cells"][0] | {"id": "two", "source": WAIT})
    (folder / "live.ipynb").write_text(json.dumps(made))
    return "live.ipynb"


def test_the_view_moves_in_place_and_its_button_ends_a_load_that_a_cell_waits_for(
    notebook, address, page, tmp_path
):
    page.set_viewport_size({"width": 1024, "height": 1000})
    lab.run_all(page, address + notebook)
    view = page.locator(".qwenkit-live")
    expect(view).to_be_visible()
    page.evaluate(OBSERVE)
    # Not 3 ready: pods of the panel's test may still hold the GPUs.
    expect(view).to_contain_text("ready of 3 desired")
    page.wait_for_function("states.size > 10")
    assert page.evaluate("places.size") == 1  # nothing jumps
    for dark in (False, True):
        lab.set_theme(page, dark=dark)
        for width in (1440, 1024):
            page.set_viewport_size({"width": width, "height": 1000})
            page.wait_for_timeout(600)  # until it is drawn anew
            assert page.evaluate(INSIDE), f"{width} px"
            page.screenshot(path=tmp_path / f"live-{width}-{'dark' if dark else 'light'}.png")
        assert lab.faint(page, ".qwenkit-live") == [], "dark" if dark else "light"
    expect(page.locator(".jp-InputPrompt").nth(1)).to_have_text("[*]:")  # the second cell waits
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".jp-OutputArea").nth(1)).to_contain_text("True measured")
    result = page.locator(".jp-OutputArea").first
    expect(result).to_contain_text("requests, 0 failed, ready replicas ")
    expect(result.get_by_role("img", name="ready replicas")).to_be_visible()
    expect(result.locator("button")).to_have_count(0)
