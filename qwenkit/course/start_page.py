"""The start page: an extension of the Jupyter server, at ``/qwenkit`` beside ``/lab``.

As a page of the server it has its port, its login and its path behind a hub, and needs neither a
kernel nor a click on Run. ``jupyter server extension enable qwenkit.course.start_page`` adds it to
any Jupyter server.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from qwenkit import steps
from qwenkit.course.lab import START
from qwenkit.course.runner import find_notebooks
from qwenkit.course.target import sandbox_of
from qwenkit.errors import QwenkitError
from qwenkit.exercises.progress import progress
from qwenkit.exercises.reset import reset
from qwenkit.language import CHINESE, ENGLISH, language, said
from qwenkit.sandbox import state_files
from qwenkit.settings import Settings


@dataclass(frozen=True)
class Chapter:
    """A numbered notebook; ``passed`` of its ``exercises`` are.

    ``address`` is relative to the server's, as is ``other``: that in the other language, if any.
    """

    number: str
    title: str
    minutes: int
    passed: int
    exercises: int
    address: str
    other: str = ""

    @property
    def done(self) -> bool:
        """Whether all of its exercises are passed."""
        return self.passed == self.exercises > 0


def chapters(folder: Path, settings: Settings) -> list[Chapter]:
    """Return the chapters in the reader's language; ``folder`` is the one that Jupyter serves."""
    known = {one.chapter: one for one in progress(settings).chapters}
    made = []
    for english in find_notebooks(None):
        pair = [
            path for path in (english, english.parent / CHINESE / english.name) if path.exists()
        ]
        if language() == CHINESE:
            pair.reverse()
        book, number = json.loads(pair[0].read_text("utf-8")), english.name[:2]
        title = "".join(book["cells"][0]["source"]).partition("\n")[0].lstrip("# ")
        its = known.get(number)
        counts = (its.passed, len(its.exercises)) if its else (0, 0)
        addresses = [f"lab/tree/{path.relative_to(folder).as_posix()}" for path in pair]
        minutes = book["metadata"].get("qwenkit", {}).get("minutes", 0)
        title = title.removeprefix(number).lstrip(" ·")
        made.append(Chapter(number, title, minutes, *counts, *addresses))
    return made


def target(settings: Settings) -> dict[str, str]:
    """Return what is known of the target: whose it is, what runs there; values by name."""
    shown = {"context": settings.context}
    if settings.context == "sandbox":
        if (root := sandbox_of(settings)) is None:
            return shown | {"sandbox": said("none answers: start the lab again")}
        state = state_files.running(root)
        gpus, speed = f"{state.options.gpus} × {state.options.gpu}", state.time_scale
        shown["sandbox"] = said(f"running; {gpus}; figures are modelled; clock × {speed:g}")
        shown["whose"] = said(state_files.whose(root))
    shown["run"] = settings.run
    try:
        lines = [line.partition(" ") for line in str(steps.status(settings)).splitlines()]
        return shown | {name: said(text.strip()) for name, _, text in lines}
    except QwenkitError as error:
        return shown | {"service": str(error)}


def page(served: str, xsrf: str, told: str = "") -> str:
    """Return the page; ``told`` is what came of a reset, ``xsrf`` the hidden field of its forms."""
    settings, folder = Settings.load(), Path(served).expanduser().resolve()
    every, words = (
        chapters(folder, settings),
        Environment(loader=PackageLoader("qwenkit.course", "")),
    )
    words.autoescape, words.filters["said"] = True, said
    return words.get_template("start.html").render(
        chapters=every,
        passed=sum(one.passed for one in every),
        total=sum(one.exercises for one in every),
        next=next((one for one in every if one.exercises and not one.done), None),
        target=target(settings),
        language="zh-CN" if language() == CHINESE else ENGLISH,
        told=told,
        xsrf=xsrf,
    )


def reset_chapter(number: str) -> str:
    """Bring the target to the start of a chapter; return what came of it."""
    try:
        return said(str(reset(Settings.load(), number)))
    except QwenkitError as error:
        return str(error)


class StartPage(JupyterHandler):
    """Shows the page; a POST resets a chapter."""

    @web.authenticated
    async def get(self) -> None:
        """Answer with the page."""
        await self._show("")

    @web.authenticated
    async def post(self) -> None:
        """Reset a chapter, then answer with the page."""
        number = self.get_body_argument("chapter")
        await self._show(await asyncio.to_thread(reset_chapter, number))

    async def _show(self, told: str) -> None:
        served, form = self.settings["server_root_dir"], self.xsrf_form_html()
        self.finish(await asyncio.to_thread(page, served, form, told))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: Any) -> None:
    settings = server.web_app.settings
    settings["page_config_hook"] = _without_news
    path = url_path_join(settings["base_url"], START)
    server.web_app.add_handlers(".*$", [(path, StartPage)])


def _without_news(_handler: Any, page: dict[str, Any]) -> dict[str, Any]:
    """Turn off what asks each newcomer, over the first notebook, whether news are wanted."""
    off = [*page.get("disabledExtensions", ()), "@jupyterlab/apputils-extension:announcements"]
    return page | {"disabledExtensions": off}


async def _start_jupyter_server_extension(server: Any) -> None:
    """Print the address once the server answers: the token is in it, as Jupyter prints it."""
    print(f"lab: {server.public_url}", flush=True)
