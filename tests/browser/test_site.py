"""The built site, served from its folder: pages in both languages, and Python in the page."""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import sys
import threading

import lab
import pytest
from places import ROOT
from playwright.sync_api import expect

pytestmark = pytest.mark.long
SITE = ROOT / "build" / "site"
BROWSER = "lite/lab/index.html?path="
# Prints the sum as the notebook does, from the same cells.
SUM = """
import json, sys
names = {}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["id"] in ("imports", "given", "decisions", "fingerprint"):
        exec("".join(cell["source"]), names)
"""
WIDE = "document.documentElement.scrollWidth - innerWidth"


class Files(http.server.SimpleHTTPRequestHandler):
    """Serve files as ``python -m http.server`` does, without a line a request."""

    def log_message(self, *_: object) -> None:
        pass


# All that is not asked of the site's own host goes to a proxy that is not there.
NOWHERE = {"server": "http://127.0.0.1:9", "bypass": "127.0.0.1"}


@pytest.fixture(scope="module")
def site():
    """Build the site and serve it; return its address."""
    subprocess.run([sys.executable, ROOT / "tools/site/build.py"], check=True)
    handler = functools.partial(Files, directory=str(SITE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(site):
    asked = []
    with lab.chromium(1440, proxy=NOWHERE) as page:
        page.context.on("request", lambda request: asked.append(request.url))
        yield page
    own = (f"{site}/", f"blob:{site}/", "data:")
    assert asked, "the requests were seen"
    assert [url for url in asked if not url.startswith(own)] == []


def output(page, code):
    """Return the output of the first code cell that has these words."""
    return page.locator(".jp-CodeCell", has_text=code).first.locator(".jp-OutputArea")


@pytest.mark.parametrize("folder", ["lite", "zh/lite"])
def test_the_simulator_runs_in_the_page_and_gives_the_same_bits(folder, site, page, tmp_path):
    name, path = f"{folder}/autoscaling.ipynb", ROOT / "notebooks" / folder / "autoscaling.ipynb"
    page.goto(f"{site}/{BROWSER}{name}")
    # Python has to be compiled first.
    expect(page.locator(".jp-StatusBar-Widget")).to_contain_text("| Idle", timeout=300_000)
    lab.run_cells(page)
    here = subprocess.run([sys.executable, "-c", SUM, path], capture_output=True, check=True)
    expected = here.stdout.decode().split()[-1]
    expect(output(page, "hexdigest")).to_have_text(f"SHA-256 {expected}", timeout=180_000)
    errors = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']")
    assert errors.all_inner_texts() == []

    panel = page.locator(".qwenkit-tuner")
    table = panel.locator("table", has_text="1.4")
    chart = panel.locator("svg").inner_html()
    panel.get_by_role("slider", name=re.compile("^(target|目标值)$")).focus()
    page.keyboard.press("ArrowRight")
    expect(table).to_contain_text("1.75")
    assert panel.locator("svg").inner_html() != chart
    expect(panel.get_by_role("button", name=re.compile("Apply"))).to_have_count(0)

    for width in (1440, 1024):
        page.set_viewport_size({"width": width, "height": 1000})
        panel.scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / f"lite-{width}.png")
    page.set_viewport_size({"width": 1440, "height": 1000})

    for number, wrong, right in (("05.1", 3, 4), ("05.2", 1, 2)):
        for value, mark in ((wrong, "✗"), (right, "✓")):
            cell = page.locator(".jp-CodeCell", has_text=f'answer("{number}"').first
            cell.locator(".cm-content").click()
            page.keyboard.press("Control+A")
            page.keyboard.insert_text(f'answer("{number}", {value})')
            page.keyboard.press("Control+Enter")
            expect(cell.locator(".jp-OutputArea")).to_contain_text(str(value))
            check = page.locator(".jp-CodeCell", has_text=f'check("{number}")').first
            check.locator(".cm-content").click()
            page.keyboard.press("Control+Enter")
            expect(check.locator(".jp-OutputArea")).to_contain_text(f"{mark} {number}")


@pytest.mark.parametrize("width", [1440, 1024])
def test_pages_are_readable_and_lead_to_each_other(width, site, page, tmp_path):
    page.set_viewport_size({"width": width, "height": 1000})
    said = []
    page.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    for name in ("index.html", "notebooks/05-autoscaling.html", "notebooks/glossary.html"):
        page.goto(f"{site}/{name}")
        for theme in ("light", "dark"):
            page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
            page.reload()
            assert page.evaluate(WIDE) <= 0, name
            assert lab.faint(page, "article") == [], (name, theme)
            page.screenshot(path=tmp_path / f"{name.replace('/', '-')}-{width}-{theme}.png")
        page.locator(".qwenkit-links").get_by_role("link", name="中文", exact=True).click()
        page.wait_for_url(f"{site}/zh/{name}")
        assert page.locator("html").get_attribute("lang") in ("zh-CN", "zh_CN")
        assert page.evaluate(WIDE) <= 0, name
        page.screenshot(path=tmp_path / f"zh-{name.replace('/', '-')}-{width}.png")
        page.locator(".qwenkit-links").get_by_role("link", name="English", exact=True).click()
        page.wait_for_url(f"{site}/{name}")
    page.goto(f"{site}/notebooks/05-autoscaling.html")
    page.get_by_role("link", name=re.compile("06-load-test")).first.click()
    page.wait_for_url(f"{site}/notebooks/06-load-test.html")
    page.goto(f"{site}/api/index.html")
    page.get_by_role("link", name="Settings", exact=True).first.click()
    expect(page.locator("article")).to_contain_text("class qwenkit.settings.Settings")
    assert said == []
