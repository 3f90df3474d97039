"""Run a chapter in JupyterLab, and say what of it a person could not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import lab
import observe
from playwright.sync_api import ConsoleMessage, Page

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@dataclass
class Chapter:
    """A chapter that has run, in a page."""

    page: Page
    told: list[str] = field(default_factory=list)

    def problems(self, width: int) -> list[str]:
        """Look at it at a width: what is cut, outside or faint, and the browser's own errors."""
        lab.set_width(self.page, width)
        return [*lab.hidden(self.page), *lab.faint(self.page, lab.OURS), *self.told]


@contextmanager
def run(page: Page, address: str, name: str) -> Iterator[Chapter]:
    """Run all cells of a chapter; each must print what its *Observe* cell says."""
    chapter = Chapter(page)

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error":
            chapter.told.append(f"console: {message.text}")

    def thrown(error: object) -> None:
        chapter.told.append(f"script: {error}")

    page.on("console", heard)
    page.on("pageerror", thrown)
    try:
        lab.run_all(page, f"{address}{name}.ipynb")
        told = list(observe.mismatches(lab.finish(page)))
        assert not told, "\n".join(told)
        page.mouse.move(0, 0)  # what it points at has another colour
        yield chapter
    finally:
        page.remove_listener("console", heard)
        page.remove_listener("pageerror", thrown)
        lab.end_kernels(page)
