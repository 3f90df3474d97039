"""The comparer of *Observe* cells: what counts as seen, and what is told when it is not."""

from __future__ import annotations

import observe
import pytest


def notebook(block, *outputs, code="load"):
    described = f"You see:\n\n```text\n{block}\n```\n"
    return {
        "cells": [
            {"cell_type": "code", "id": code, "source": "", "outputs": list(outputs)},
            {"cell_type": "markdown", "id": "observe-load", "source": described},
        ]
    }


def stream(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def shown(**data):
    return {
        "output_type": "display_data",
        "data": {name.replace("_", "/"): text for name, text in data.items()},
    }


GOOD = [
    ("1 ready", [stream("1 ready\n")]),
    ("1 ready\n3 ready", [stream("1 ready\n2 ready\n"), stream("3 ready\n")]),
    ("pod …-a is ready after … s", [stream("pod qwen-00001-a is ready after 7.4 s")]),
    ("gpu   count\nV100-16 3", [shown(text_plain="gpu      count\nV100-16  3")]),
    ("gpu … count\nV100-16 … 3", [shown(text_plain="gpu      count\nV100-16  3")]),
    ("ready … now", [stream("ready now")]),
    ("1 ready", [stream("\x1b[32m1 ready\x1b[0m\n")]),
    ("100 %", [stream("10 %\r50 %\r100 %\n")]),
    ("a\nb 1", [shown(text_html="<p>a</p><table><tr><td>b</td><td>1</td></tr></table>")]),
]
BAD = [
    ("4 ready", [stream("1 ready\n")]),
    ("2 ready\n1 ready", [stream("1 ready\n2 ready\n")]),
    ("1 ready\n1 ready", [stream("1 ready\n")]),
    ("ready", [stream("1 ready\n")]),
    ("1.5 s", [stream("1x5 s\n")]),
    ("anything", []),
]


@pytest.mark.parametrize(("block", "outputs"), GOOD)
def test_what_came_is_seen(block, outputs):
    assert list(observe.mismatches(notebook(block, *outputs))) == []


@pytest.mark.parametrize(("block", "outputs"), BAD)
def test_what_did_not_come_is_told_with_what_came_instead(block, outputs):
    (told,) = observe.mismatches(notebook(block, *outputs))
    assert told.startswith("observe-load: no such line:")
    assert all(line in told for line in observe.printed(notebook(block, *outputs)["cells"][0]))


def test_an_observe_cell_needs_its_code_cell_and_one_block():
    (told,) = observe.mismatches(notebook("1", stream("1"), code="other"))
    assert told == "observe-load: there is no code cell load"
    (told,) = observe.mismatches(notebook("", stream("1")))
    assert "needs one ```text block" in told
    (told,) = observe.mismatches(notebook("1\n```\n\n```text\n1", stream("1")))
    assert "needs one ```text block" in told
