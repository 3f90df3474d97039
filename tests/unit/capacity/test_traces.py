"""Recorded arrivals in every form that people and public traces write them."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA

from qwenkit.capacity.simulation.traces import read_trace
from qwenkit.capacity.simulation.traffic import Lengths
from qwenkit.errors import InvalidValue

PLAIN = [(0, 100, 20), (1, 100, 20)]
FILES = {
    "azure-like.csv": [(0, 374, 44), (4.314579, 396, 109), (4.541977, 879, 55)],
    "bom-crlf.csv": [(0, 100, 20), (1.5, 100, 20), (2.5, 100, 20)],
    "burst-like.csv": [(0, 472, 18), (40, 1087, 230), (113, 417, 276)],
    "epoch.csv": [(0, 100, 20), (10, 100, 20)],
    "extra-col.csv": PLAIN[:1],
    "mooncake-like.jsonl": [(0, 6955, 52), (3, 100, 20)],
    "unsorted.csv": [(0, 100, 20), (2, 100, 20), (4, 100, 20)],
    "zero-tokens.csv": [(0, 100, 1), (1, 100, 20), (2, 1, 5)],
} | dict.fromkeys(("comment.csv", "floats.csv", "header.csv", "semicolon.csv"), PLAIN)


def rows(text: str) -> list[tuple[float, int, int]]:
    found = read_trace(text, lengths=Lengths(9, 8)).load.arrivals
    return [(pytest.approx(at, abs=1e-6), prompt, output) for at, prompt, output in found]


def test_each_public_form_is_read() -> None:
    texts = {path.name: path.read_text("utf-8") for path in (DATA / "traces").iterdir()}
    with pytest.raises(InvalidValue, match="no requests"):
        read_trace(texts.pop("empty.csv"))
    assert {name: rows(text) for name, text in texts.items()} == FILES
    notes = {name: read_trace(text).notes for name, text in texts.items()}
    assert notes.pop("zero-tokens.csv") == ("2 with 0 tokens, which count as 1",)
    assert set(notes.values()) == {()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t,prompt,output\n1700000010,5,6\n\n1700000000.5\n1700000003,7,\n",
         [(0, 9, 8), (2.5, 7, 8), (9.5, 5, 6)]),
        ("Completion tokens\tPrompt tokens\tArrived at\n6\t5\t3\n", [(0, 5, 6)]),
        ("Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens\n5,x,1.5,m,7,8\n",
         [(0, 7, 8)]),
        ("2023/11/16 18:15:46,1,2\n2023-11-16T19:15:47.5+01:00,1,2\n", [(0, 1, 2), (1.5, 1, 2)]),
        ("0,5;1;2\n1,75;3;4\n", [(0, 1, 2), (1.25, 3, 4)]),
        ("arrival_ms,in,out\n500,1,2\n1500,3,4\n", [(0, 1, 2), (1, 3, 4)]),
        ("1700000000000\n1700000001500\n", [(0, 9, 8), (1.5, 9, 8)]),
        ('"0","1","2"\r# pause\r"3","1","2"\r', [(0, 1, 2), (3, 1, 2)]),
        ('{"timestamp": 2000, "input_length": 4, "output_length": null, "hash_ids": [0, 1]}\n',
         [(0, 4, 8)]),
        ('{"ts": 1.5, "prompt_tokens": 4, "completion_tokens": 2}\n\n{"ts": 1}\n',
         [(0, 9, 8), (0.5, 4, 2)]),
    ],
)  # fmt: skip
def test_times_and_columns_are_found(text: str, expected: list[tuple[float, int, int]]) -> None:
    assert rows(text) == expected


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "trace"),
        ("time\n", "trace"),
        ("user,in\n3,4\n", "trace header"),
        ('{"user": 1}\n', "trace header"),
        ("1\nx\n", "trace line 2, column 1"),
        ("0 1 2\n", "trace line 1, column 1"),
        ("1\ninf\n", "trace line 2, column 1"),
        ("nan\n", "trace line 1, column 1"),
        ("-1\n", "trace line 1, column 1"),
        ("# x\n1,2.5\n", "trace line 2, column 2"),
        ("1,2,-3\n", "trace line 1, column 3"),
        ("1,2,1e9\n", "trace line 1, column 3"),
        ("t,model,in,out\n1,m,5,6\n2,m,7,many\n", "trace line 3, column 4 (out)"),
        ('{"t": 1, "in": true}\n', "trace line 1, column 2 (in)"),
        ('{"t": 1}\n{"t": 1', "trace line 2"),
        ('{"t": 1}\n7\n', "trace line 2"),
        (f'0,"{"1" * 200_000}"\n', "trace line 1"),
    ],
)
def test_what_cannot_be_read_names_line_and_column(text: str, where: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read_trace(text)
    assert caught.value.name == where
    assert caught.value.rule
    assert caught.value.fix


CELLS = st.sampled_from(
    ["0", "1e2", "-1", "nan", "", '"', "9" * 400, "t", "in", "2026-11-27", "é\0"]
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=5).map("\n".join),
        st.dictionaries(CELLS, st.one_of(CELLS, st.floats(), st.integers(), st.none())).map(
            json.dumps
        ),
    )
)
def test_whatever_it_holds_it_is_read_or_refused_by_name(text: str) -> None:
    with suppress(InvalidValue):
        assert read_trace(text).load.arrivals[0].at == 0
