"""A run as JUnit XML, which CI servers read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from qwenkit.course.runner import RunReport

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: RunReport) -> ElementTree.ElementTree[ElementTree.Element]:
    """Return one test case a notebook, and one for what the run left behind.

    Notebooks that never began are skipped: those after a failure or an interrupt, and those that
    were not chosen. So is the leak audit where no teardown was asked for.
    """
    cases = [
        _case(
            "notebooks",
            notebook.name,
            notebook.seconds,
            failed=None if notebook.skipped else notebook.error,
            skipped=(notebook.error or {}).get("why", "not run") if notebook.skipped else "",
        )
        for notebook in report.notebooks
    ]
    cases += [_case("notebooks", name, skipped="not chosen") for name in report.unchosen]
    cases.append(
        _case(
            "run",
            "teardown-and-leaks",
            report.teardown.seconds if report.teardown else 0.0,
            failed=_problems(report.problems) if report.problems else None,
            skipped=""
            if report.leaks is not None or report.problems
            else "no teardown was asked for",
        )
    )
    suite = ElementTree.Element(
        "testsuite",
        name=f"qwenkit course on {_printable(report.context)}",
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors="0",
        skipped=str(sum(case.find("skipped") is not None for case in cases)),
        time=f"{report.seconds}",
        timestamp=report.began,
    )
    suite.extend(cases)
    return ElementTree.ElementTree(suite)


def _case(
    group: str,
    name: str,
    seconds: float = 0.0,
    *,
    failed: Mapping[str, str] | None = None,
    skipped: str = "",
) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", classname=group, name=_printable(name), time=f"{seconds}"
    )
    if failed:
        failure = ElementTree.SubElement(case, "failure", message=_printable(failed["what"]))
        failure.text = _printable("\n".join(f"{part}: {text}" for part, text in failed.items()))
    elif skipped:
        ElementTree.SubElement(case, "skipped", message=_printable(skipped))
    return case


def _problems(problems: Sequence[str]) -> dict[str, str]:
    return {"what": problems[0]} | ({"and": "; ".join(problems[1:])} if problems[1:] else {})


def _printable(text: str) -> str:
    """Replace characters that XML does not allow, such as a traceback's colour codes."""
    return _NO_XML.sub("\ufffd", text)
