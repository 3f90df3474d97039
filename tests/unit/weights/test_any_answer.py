"""Whatever JSON a hub answers: a listing, or one error of ours; never another exception."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.errors import QwenkitError
from qwenkit.weights.hub.answers import FILE_BYTES
from qwenkit.weights.hub.http_stream import HubSession
from qwenkit.weights.hub.listing import Listing, Repository, shown
from qwenkit.weights.hub.repository import open_source

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=3,
)
SIZE = st.integers(-1, FILE_BYTES + 1) | ANY
HASH = st.just("ab" * 32) | ANY
NAME = st.sampled_from(["a", "a/b", "../x", "a\0", "d"]) | st.text() | ANY


def entries(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(ANY | st.fixed_dictionaries({}, optional=fields), max_size=6)


LARGE = st.fixed_dictionaries({}, optional={"oid": HASH, "size": SIZE}) | ANY
HF = entries(type=st.just("file") | ANY, path=NAME, size=SIZE, lfs=LARGE)
FILES = entries(Path=NAME, Name=NAME, Type=st.sampled_from(["blob", "tree"]) | ANY, Size=SIZE,
                Sha256=HASH)  # fmt: skip
DATA = st.fixed_dictionaries({}, optional={"Files": FILES | ANY}) | FILES | ANY
MODELSCOPE = st.fixed_dictionaries(
    {}, optional={"Success": st.booleans() | ANY, "Message": ANY, "Data": DATA}
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["modelscope", "hf"]), st.data())
def test_any_answer_gives_a_listing_or_our_error(kind: str, data: st.DataObject) -> None:
    class Answers(HubSession):
        def json(self, path: str, *_: Any, **__: Any) -> tuple[Any, str, int]:
            if "/revision/" in path:
                return data.draw(st.just({"sha": "c0ffee"}) | ANY), "", 9
            following = data.draw(st.sampled_from(["", "", path, "/other"]))
            return data.draw((HF if kind == "hf" else MODELSCOPE) | ANY), following, 9

    repository: Any = open_source("hf:a/b", hf_endpoint="http://hub")
    if kind == "modelscope":
        repository = open_source("modelscope:a/b", modelscope_endpoint="http://hub")
    repository._http = Answers("http://hub", kind)
    answer = listed(repository)
    if isinstance(answer, QwenkitError):
        assert answer.fix
        assert str(answer).replace("\n", "").isprintable()
        return
    for file in answer.files:
        assert type(file.size) is int
        assert 0 <= file.size <= FILE_BYTES
        assert file.path.encode()


def listed(repository: Repository) -> Listing | QwenkitError:
    try:
        return repository.listing()
    except QwenkitError as error:
        return error


@settings(max_examples=50, deadline=None)
@given(ANY)
def test_any_value_is_shown_short_and_printable(value: Any) -> None:
    text = shown(value)
    assert text.isprintable()
    assert len(text) < 900
