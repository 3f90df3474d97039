"""The language that a person reads: English, or Chinese through one catalogue.

Code says what it says in English, once. ``said`` is called where a text meets a person; what
programs read (``error.what``, ``--json``) stays English. Nothing is loaded for English.
"""

from __future__ import annotations

import os
from html import escape
from pathlib import PurePath

ENGLISH, CHINESE = "en", "zh"


def language() -> str:
    """Return ``en`` or ``zh``: ``QWENKIT_LANG``, else the notebook's folder, else the locale."""
    if chosen := os.environ.get("QWENKIT_LANG"):
        return _of(chosen)
    # JupyterLab names a kernel's notebook; other front ends start the kernel beside it.
    notebook = os.environ.get("JPY_SESSION_NAME")
    folder = PurePath(notebook).parent if notebook else PurePath(_here())
    if CHINESE in folder.parts[-2:]:  # or in a folder beside the course's, as the browser's
        return CHINESE
    locale = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return _of(next(filter(None, locale), ""))


class Shown:
    """A result that notebooks show by its ``str``, for a person."""

    __slots__ = ()

    def __repr__(self) -> str:
        return said(str(self))

    def _repr_html_(self) -> str:
        return as_html(repr(self))


def as_html(text: str) -> str:
    """Return lines whose words stay whole; JupyterLab breaks plain text anywhere."""
    return (
        '<pre style="margin: 0; white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere;'
        ' font-size: var(--jp-code-font-size, 13px); line-height: var(--jp-code-line-height, 1.3)">'
        f"{escape(text)}</pre>"
    )


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder was deleted
        return ""


def _of(name: str) -> str:
    return CHINESE if name.lower().startswith(CHINESE) else ENGLISH


def said(text: str) -> str:
    """Return a text, or several lines of it, in the language of the person who reads it.

    What the catalogue does not know, such as the message of a server, stays as it is.
    """
    if language() == ENGLISH:
        return text
    from qwenkit.language.catalogue import chinese

    return chinese().said(text)
