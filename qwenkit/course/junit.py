"""A run as JUnit XML, which CI servers read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from qwenkit.course.runner import RunReport

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: RunReport) -> ElementTree.ElementTree[ElementTree.Element]:
    """Return one test case a notebook, and one for what the run left behind.

    What never began is skipped: notebooks after a failure or an interrupt, those that were not
    chosen, and the leak audit where no teardown was asked for.
    """
    suite = ElementTree.Element(
        "testsuite",
        name=_printable(f"qwenkit course on {report.context}"),
        time=f"{report.seconds}",
        timestamp=report.began,
        errors="0",
    )
    for each in report.notebooks:
        _add_case(suite, each.name, each.seconds, each.error, skipped=each.skipped)
    for name in report.unchosen:
        _add_case(suite, name, 0.0, {"what": "not chosen"}, skipped=True)
    problems = {f"problem {n}": text for n, text in enumerate(report.problems, 1)}
    unasked = {} if report.leaks is not None else {"what": "no teardown was asked for"}
    seconds = report.teardown.seconds if report.teardown else 0.0
    _add_case(suite, "teardown-and-leaks", seconds, problems or unasked, skipped=not problems)
    for count, kind in (("tests", "*"), ("failures", "*/failure"), ("skipped", "*/skipped")):
        suite.set(count, str(len(suite.findall(kind))))
    return ElementTree.ElementTree(suite)


def _add_case(
    suite: ElementTree.Element,
    name: str,
    seconds: float,
    said: Mapping[str, str] | None,
    *,
    skipped: bool,
) -> None:
    about = {"classname": "qwenkit", "name": _printable(name), "time": f"{seconds}"}
    case = ElementTree.SubElement(suite, "testcase", about)
    if said:
        kind, first = "skipped" if skipped else "failure", _printable(next(iter(said.values())))
        text = _printable("\n".join(f"{part}: {text}" for part, text in said.items()))
        ElementTree.SubElement(case, kind, message=first).text = text


def _printable(text: str) -> str:
    """Replace characters that XML does not allow, such as a traceback's colour codes."""
    return _NO_XML.sub("\ufffd", text)
