"""Build the course as a static site: pages, API documentation, and a simulator that runs in them.

    make site

The site lies in build/site and needs nothing from elsewhere: serve it with
``python -m http.server --directory build/site``. Tools and packages are downloaded once, into
build/site-cache.
"""

from __future__ import annotations

import shutil
import time

import browser
import environment
import links
import pages

OUT = environment.ROOT / "build" / "site"


def main() -> None:
    """Build into a new folder, check its links, and put it in the place of the last one."""
    began = time.monotonic()
    environment.CACHE.mkdir(parents=True, exist_ok=True)
    python, pyodide = environment.tools(), environment.pyodide()
    wheels = environment.wheels(python)
    new = environment.CACHE / "new"
    shutil.rmtree(new, ignore_errors=True)
    pages.build(python, new)
    environment.say("JupyterLite")
    browser.build(python, wheels, pyodide, new / "lite")
    if wrong := links.wrong(new):
        raise SystemExit("site: links that lead nowhere, or elsewhere:\n" + "\n".join(wrong))
    (new / ".nojekyll").touch()  # else GitHub Pages leaves out folders that begin with _
    shutil.rmtree(OUT, ignore_errors=True)
    new.rename(OUT)
    size = sum(file.stat().st_size for file in OUT.rglob("*") if file.is_file()) / 1e6
    environment.say(f"{size:.0f} MB in {time.monotonic() - began:.0f} s → build/site/index.html")
    environment.say("serve it: python -m http.server --directory build/site")


if __name__ == "__main__":
    main()
