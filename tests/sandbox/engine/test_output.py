"""An answer as it grows: stop strings over token borders, whole characters, nothing taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine_world import model
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.sandbox.engine.bodies import CompletionBody
from qwenkit.sandbox.engine.output import Delta, SequenceOutput
from qwenkit.sandbox.engine.requests import ServedModel, completion
from qwenkit.sandbox.engine.sampling import SampledToken

TEXT = model().tokenizer
END = max(TEXT.eos_ids)
words = st.text(alphabet="ab西湖 \n", min_size=1, max_size=30)
stops = st.lists(st.text(alphabet="ab西湖", min_size=1, max_size=4), max_size=3)


def said(tokens: Sequence[int], **body: Any) -> list[Delta]:
    """Return what comes of tokens, up to the one that ends the answer."""
    served = ServedModel(TEXT, model().model.vocab_size, 8192, 5)
    asked = CompletionBody(**{"model": "m", "prompt": "a", "max_tokens": 8000} | body)
    output, deltas = SequenceOutput(completion(asked, served), TEXT), list[Delta]()
    for token in tokens:
        deltas.append(output.push(SampledToken(token, 0.0)))
        if deltas[-1].finish_reason:
            break
    return deltas


def text(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@given(words, st.text(alphabet="ab西湖", min_size=1, max_size=4))
def test_the_first_stop_string_ends_the_answer_and_is_not_said(whole: str, stop: str) -> None:
    deltas = said([*TEXT.encode(whole), END], stop=stop)
    before, found, _ = whole.partition(stop)
    assert text(deltas) == before
    assert deltas[-1].finish_reason == "stop"
    assert deltas[-1].stop_reason == (found or None)


@given(words, stops)
def test_what_is_said_is_a_beginning_without_any_stop_string(
    whole: str, several: list[str]
) -> None:
    deltas = said([*TEXT.encode(whole), END], stop=several)
    assert whole.startswith(text(deltas))
    # Of several that one token completes, the first of the list counts, as in vLLM.
    assert not any(stop in text(deltas[:-1]) for stop in several)
    assert deltas[-1].stop_reason is None or deltas[-1].stop_reason not in text(deltas)
    stopped = any(stop in whole for stop in several)
    assert (deltas[-1].stop_reason in several) == stopped
    assert stopped or text(deltas) == whole


@given(st.text(max_size=40))
def test_no_character_is_torn(whole: str) -> None:
    clean = whole.encode("utf-8", "replace").decode()
    tokens = TEXT.encode(clean)
    expected = TEXT.decode(tokens)
    deltas = said([*tokens, END])
    assert text(deltas) == expected
    assert "�" not in text(deltas) or "�" in expected


def test_a_character_that_stays_incomplete_is_not_said() -> None:
    first, *_ = (token for token in range(model().model.vocab_size) if TEXT.piece(token) == b"\xe8")
    assert text(said([first, END])) == ""


def test_the_end_token_ends_unless_ignored() -> None:
    tokens = [*TEXT.encode("a"), END, *TEXT.encode("b")]
    assert text(said(tokens)) == "a"
    assert said(tokens)[-1].finish_reason == "stop"
    assert text(said(tokens, ignore_eos=True)) == "ab"


def test_max_tokens_ends_by_length() -> None:
    deltas = said(TEXT.encode("a b a b a b"), max_tokens=3)
    assert [delta.finish_reason for delta in deltas] == [None, None, "length"]
