"""A sheet for each participant: files to hand out, and one page to print, in both languages."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from qwenkit.errors import InvalidValue, PreflightError
from qwenkit.language import CHINESE, ENGLISH, Shown
from qwenkit.language.catalogue import chinese
from qwenkit.private_files import make_folder, write_private
from qwenkit.settings import Settings
from qwenkit.workshop import description
from qwenkit.workshop.access import Access, access
from qwenkit.workshop.create import concurrently
from qwenkit.workshop.description import Description
from qwenkit.workshop.names import WorkshopName

START = "KUBECONFIG=$PWD/kubeconfig qwenkit lab -p params.yaml"
_ENDINGS = {ENGLISH: ".html", CHINESE: ".zh.html"}


@dataclass(frozen=True, repr=False)
class Sheets(Shown):
    """The folder of the sheets, how many were written, and the first end of a token (RFC 3339)."""

    folder: str
    sheets: int
    until: str

    def __str__(self) -> str:
        return (
            f"  {self.sheets} sheets in {self.folder}, tokens until {self.until}\n"
            f"  to print: {self.folder}/sheets.html, or sheets.zh.html"
        )


def write(
    settings: Settings,
    name: WorkshopName,
    folder: Path,
    *,
    only: Sequence[str] = (),
    link: str = "",
) -> Sheets:
    """Write kubeconfig, params.yaml and sheet of each participant, with new tokens.

    Args:
        settings: the instructor's: the context.
        name: the workshop.
        folder: a folder that only its owner reads, since tokens are in it.
        only: ids or names of some participants; none: all.
        link: a base URL where the folder will be served; the QR codes then point there.

    Raises:
        NotFound: no such workshop or participant.
        InvalidValue: the folder cannot be written.
        PreflightError: the library that draws QR codes is not installed.
    """
    with closing(description.connect(settings, name)) as cluster:
        workshop = description.read(cluster, name)
        people = [workshop.participant(one) for one in only] or list(workshop.participants)
        given = concurrently(people, lambda who: access(cluster, workshop, who))
    given.sort(key=lambda one: one.who.id)
    try:
        for one in given:
            own = folder / one.who.id
            make_folder(own)
            write_private(own / "kubeconfig", one.kubeconfig)
            write_private(own / "params.yaml", one.params)
        for tongue, ending in _ENDINGS.items():
            for one in given:
                sheet = page(workshop, [one], tongue, link=link, with_files=True)
                write_private(folder / one.who.id / f"sheet{ending}", sheet)
            if not only:
                every = page(workshop, given, tongue, link=link)
                write_private(folder / f"sheets{ending}", every)
    except OSError as error:
        raise InvalidValue("--output", str(folder), f"must be a folder of yours: {error}") from None
    return Sheets(str(folder), len(given), min(one.until for one in given))


def page(
    workshop: Description,
    given: Sequence[Access],
    tongue: str,
    *,
    link: str = "",
    with_files: bool = False,
) -> str:
    """Return a page with a sheet for each; ``with_files``: the files can be saved from it."""
    try:
        import segno
        from jinja2 import Environment, PackageLoader
    except ModuleNotFoundError as error:
        fix = "pip install 'qwenkit[course]'"
        raise PreflightError("sheets need a library", str(error), fix) from error
    words = Environment(loader=PackageLoader("qwenkit.workshop", ""), autoescape=True)
    words.filters["said"] = chinese().said if tongue == CHINESE else str
    sheets = []
    for one in given:
        address = f"{link.rstrip('/')}/{one.who.id}/sheet{_ENDINGS[tongue]}" if link else ""
        code = segno.make(address or START, error="m").svg_inline(
            border=2, light="#fff", omitsize=True
        )
        files = {"kubeconfig": _saved(one.kubeconfig), "params.yaml": _saved(one.params)}
        files = files if with_files else {}
        sheets.append({"one": one, "code": code, "files": files, "address": address})
    return words.get_template("sheet.html").render(
        workshop=workshop,
        sheets=sheets,
        start=START,
        language="zh-CN" if tongue == CHINESE else ENGLISH,
    )


def _saved(text: str) -> str:
    return f"data:application/octet-stream;base64,{b64encode(text.encode()).decode()}"
