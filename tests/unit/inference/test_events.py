"""The reader of streams: whatever the bytes, events are found; whatever the event, it is read."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.inference.events import BadEvent, ChatReader, EventReader


@settings(max_examples=50)
@given(
    events=st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n")), min_size=1)
    ),
    ending=st.sampled_from(["\n", "\r", "\r\n"]),
    size=st.integers(1, 9),
)
def test_events_do_not_depend_on_line_ends_or_packets(
    events: list[list[str]], ending: str, size: int
) -> None:
    lines = "".join(
        "".join(f"data: {line}{ending}" for line in event) + f": ping{ending}{ending}"
        for event in events
    )
    sent = (lines + "data: incomplete").encode()
    reader = EventReader()
    found = [data for at in range(0, len(sent), size) for data in reader.feed(sent[at : at + size])]
    # The blank line after a final CR is complete only when the next byte is no LF.
    assert [data.decode() for data in found] == ["\n".join(event) for event in events]


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "delta",
                        "content",
                        "usage",
                        "error",
                        "object",
                        "finish_reason",
                        "reasoning",
                        "completion_tokens",
                        "completion_tokens_details",
                        "prompt_tokens",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_event_is_read_or_refused(value: object) -> None:
    found = []
    with suppress(BadEvent):
        found = ChatReader().feed(b"data: " + json.dumps(value).encode() + b"\n\n")
    assert all(isinstance(piece.text, str) and piece.text for piece in found)


_DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "content": st.text(max_size=3) | st.sampled_from(["a", 'b"', "c\\", "qwen", "index"]),
        "reasoning": st.sampled_from(["why", "so"]),
        "role": st.just("assistant"),
    },
)
_CHUNKS = st.tuples(_DELTAS, st.sampled_from([None, None, None, "stop"]), st.booleans())


@given(chunks=st.lists(_CHUNKS, max_size=12), size=st.integers(0, 60), ascii_=st.booleans())
def test_what_is_recognised_is_what_parsing_finds(
    chunks: list[tuple[dict[str, str], str | None, bool]], size: int, ascii_: bool
) -> None:
    events = []
    for delta, finish, counted in chunks:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"model": "qwen", "choices": [choice]}
        chunk |= {"usage": {"completion_tokens": 3}} if counted and finish else {}
        events.append(f"data: {json.dumps(chunk, ensure_ascii=ascii_)}\n\n".encode())
    whole = b"".join(events)
    packets = [whole[at : at + size] for at in range(0, len(whole), size)] if size > 9 else events
    quick, slow = ChatReader(), ChatReader()
    for packet in packets:
        found = slow.feed(packet)
        if quick.recognises(packet):
            assert len(found) == 1
        else:
            assert quick.feed(packet) == found
        read = [
            (one.pieces, one.reasoning_pieces, one.finish, one.tokens, one.reasoning_tokens)
            for one in (quick, slow)
        ]
        assert read[0] == read[1]


def test_most_tokens_are_recognised() -> None:
    reader = ChatReader()
    events = [
        b'data: {"choices": [{"index": 0, "delta": {"content": "%b"}}]}\n\n' % word
        for word in (b"to", b"be", b"or", b"\\n", "西湖".encode())
    ]
    assert [bool(reader.recognises(one) or reader.feed(one)) for one in events] == [True] * 5
    assert [reader.recognises(one) for one in events] == [True] * 5
    assert not reader.recognises(events[0].replace(b"to", b""))
    assert not reader.recognises(events[0].replace(b'"delta"', b'"other"'))
