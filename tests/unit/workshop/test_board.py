"""The instructor's board: rows from lists of objects, whatever participants write in them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.cli.console import plain
from qwenkit.cluster.gpu_slot import CLOSED, GpuSlot
from qwenkit.exercises.sharing import shared
from qwenkit.workshop.board import Board, harmless, read_board
from qwenkit.workshop.description import Description
from qwenkit.workshop.names import WorkshopName
from qwenkit.workshop.slots.state import Grant, Slots

EVIL = [
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    "\x1b]0;owned\x07\x1b[2J\x1b[31mred",
    "\u202egnp.exe",
    "a\nb\r\tc\x00\x85\u2028d",
    "\ud800",
    "=cmd|' /C calc'!A0",
    "$\\href{javascript:alert(1)}{x}$",
    "🏴" * 5_000,
    "x, y: z. " * 20_000,
]


def config(namespace: str, name: str, data: dict[str, str]) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


def service(id_: str, status: str, message: str = "", name: str = "qwen") -> dict[str, object]:
    ready = {"type": "Ready", "status": status, "message": message}
    where = {"name": name, "namespace": f"ws-{id_}", "generation": 1}
    return {"metadata": where, "status": {"conditions": [ready]}}


def progress(id_: str, record: object) -> dict[str, object]:
    return config(f"ws-{id_}", "progress", {"record": json.dumps(record)})


def board(*objects: dict[str, object], names: tuple[str, ...] = ("",), **kinds: object) -> Board:
    about = Description(
        WorkshopName("ws"),
        tuple(WorkshopName("ws").participant(n, name) for n, name in enumerate(names, 1)),
        2,
        "2030-01-01T00:00:00Z",
    ).to_object()
    return read_board(
        "ws", (about, *objects), kinds.get("services", ()), kinds.get("explained", {})
    )


def test_a_row_says_where_a_participant_is_what_he_holds_and_what_that_costs() -> None:
    slots = Slots(
        9,
        price_per_gpu_hour=10.0,
        grants={"p01": Grant("uid", 1, 0.0, 600.0)},
        settled={"p01": 1800.0},
    )
    told = GpuSlot("granted", 1, until=600.0)
    waits = GpuSlot("waiting", position=3, expected_at=900.0)
    found = board(
        config("qwenkit-ws", "slots", slots.to_data()),
        config("ws-p01", "workshop", told.to_data()),
        config("ws-p02", "workshop", waits.to_data()),
        progress("p01", {"chapter": "05", "passed": {"00.1": "now", "05.1": "now", "99.9": "now"}}),
        names=("Ada", "李雷"),
        services=[service("p01", "True"), service("p02", "False", "no GPU")],
    )
    ada, lei = found.rows
    assert (ada.id, ada.name, ada.progress.chapter, ada.progress.passed) == ("p01", "Ada", "05", 2)
    assert (ada.slot, ada.gpu_seconds, ada.cost, ada.service.state) == (told, 1800.0, 5.0, "ok")
    assert (lei.slot, lei.progress.passed, lei.service.why) == (waits, 0, "no GPU")
    assert found.head() == (
        "workshop ws: 1 of 9 GPUs held; 1 waiting; 30.0 GPU minutes used; 5.00 CNY so far"
    )
    assert "waiting: number 3, expected at" in repr(found)
    assert json.loads(json.dumps(plain(found)))["rows"][0]["cost"] == 5.0


def test_the_service_that_needs_help_most_is_shown_with_its_explanation() -> None:
    states = [service("p01", "True", name="a"), service("p01", "False", "message", name="b")]
    seen = board(services=states).rows[0].service
    assert (seen.service, seen.state, seen.why) == ("b", "error", "message")
    known = {("ws-p01", seen.seen): "the image does not exist"}
    assert board(services=states, explained=known).rows[0].service.why == known.popitem()[1]
    changed = replace(seen, seen="another")
    older = {("ws-p01", changed.seen): "older"}
    assert board(services=states, explained=older).rows[0].service.why == "message"


def test_services_of_others_are_left_out_and_slots_are_known_before_a_keeper_looks() -> None:
    found = board(services=[service("p99", "False", "another's")])
    assert found.rows[0].service.state == ""
    assert found.head().startswith("workshop ws: 0 of 2 GPUs held")
    assert read_board("ws", [], [], {}).rows == ()


def test_freeze_note_and_budget_stand_above_the_rows() -> None:
    slots = Slots(2, frozen=True, note="Lunch at noon", budget_gpu_hours=0.5)
    head = board(config("qwenkit-ws", "slots", slots.to_data())).head()
    assert head.endswith(
        f"30 GPU minutes in the budget; no GPUs now: {CLOSED['frozen']}\nyour note: Lunch at noon"
    )


class Tags(HTMLParser):
    """Collects the tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen |= {tag, *(name for name, _ in attrs)}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
def test_hostile_text_has_no_effect_on_page_or_terminal(text, language, monkeypatch) -> None:
    monkeypatch.setenv("QWENKIT_LANG", language)
    began = process_time()
    found = board(
        progress("p01", {"chapter": text, "passed": {text: text}}),
        names=(text,),
        services=[service("p01", "False", text, name=text)],
    )
    page, terminal = found.html(), repr(found)
    assert process_time() - began < 2
    assert Tags(page).seen <= {"div", "p", "table", "thead", "tbody", "tr", "th", "td", "span"} | {
        "style",
        "class",
    }
    assert len(terminal.splitlines()) == 3
    assert all(line.isprintable() for line in terminal.splitlines())
    assert max(map(len, terminal.splitlines())) < 300
    assert len(page) < 5_000


@given(st.text(), st.integers(2, 50))
def test_harmless_text_is_one_short_line(text: str, most: int) -> None:
    line = harmless(text, most)
    assert len(line) <= most
    assert line.isprintable()
    assert harmless(line, most) == line


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_record_of_progress_is_read(record: object) -> None:
    for whole in (record, {"chapter": record, "passed": record}):
        found = shared({"data": {"record": json.dumps(whole)}})
        assert (found.chapter, found.passed) == ("", 0)


@pytest.mark.parametrize("text", ["", "{", "[" * 10_000, '{"passed": ' + "9" * 30_000 + "}"])
def test_what_is_no_record_of_progress_counts_as_none(text: str) -> None:
    assert shared({"data": {"record": text}}).passed == 0
    assert not re.search(r"\S", shared({"data": None}).chapter)
