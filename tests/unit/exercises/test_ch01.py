"""The exercises of chapter 01: right ways, wrong ways and what each is told."""

from __future__ import annotations

import pytest
from given_facts import GivenFacts, is_told

from qwenkit.exercises.exercise import PASSED, TODO, find
from qwenkit.settings import Settings

P = "Qwen-7B-Chat-Int8"
REVISION = "5637fbafdaa0187ea9f711384629ab229902db0c"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
SMALL = ["LICENSE", "README.md", "config.json", "generation_config.json"]
SMALL += ["model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"]
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
MODEL = {f"{P}/{name}": "…" * 1000 for name in [*SMALL, *SHARDS]} | {f"{P}/qwenkit.json": "{}"}


def grade(id_, answer=None, *, without=(), **more):
    kept = {key: text for key, text in MODEL.items() if key not in {f"{P}/{w}" for w in without}}
    return find(id_).grade(
        GivenFacts(Settings(), answer=answer, bucket=kept | more.pop("bucket", {}))
    )


def under(folder, *names):
    return {"bucket": {f"{folder}/{name}": "…" for name in names}}


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [
        (0, {}, "nothing"),
        (2, {}, "manifest-counted"),
        (8, {}, "the-rest"),
        (9, {}, "everything"),
        (10, {}, "everything"),
        (5, {}, "other"),
        ("one", {}, "no-number"),
        (True, {}, "no-number"),
        (1, {"without": SHARDS[:1]}, "still-missing"),
        (1, {"without": SHARDS}, "still-missing"),
        (1, {"without": ["qwenkit.json"]}, "no-manifest"),
        (1, {"bucket": {f"{P}/{SHARDS[0]}": "version https://git-lfs"}}, "pointer"),
    ],
)
def test_what_is_sent_again(answer, state, told):
    is_told("01.1", grade("01.1", answer, **state), told)


WHOLE = ("qwenkit.json", *TOKENIZER)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (under("tokenizer", *WHOLE), "outside"),
        (under(f"{P}/tokenizer", *(f"{P}/{name}" for name in WHOLE)), "nested"),
        (under(f"{P}/tokenizer", "qwenkit.json", *SMALL, *SHARDS), "weights"),
        (under(f"{P}/tokenizer", "qwenkit.json", "tokenizer.json"), "half"),
        (under(f"{P}/tokenizer", *TOKENIZER), "no-manifest"),
        (under(f"{P}/tokenizer", "qwenkit.json", *SMALL), "more"),
    ],
)
def test_the_tokenizer_alone(state, told):
    is_told("01.2", grade("01.2", **state), told)


BOTH = ("LICENSE", "qwenkit.json")


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (under(f"licence/{REVISION}", *BOTH), "outside"),
        (under(f"{P}/licence", *BOTH), "no-revision"),
        (under(f"{P}/licence/{REVISION[:12]}", *BOTH), "short"),
        (under(f"{P}/licence/master", *BOTH), "moves"),
        (under(f"{P}/licence/REVISION", *BOTH), "moves"),
        (under(f"{P}/licence/{REVISION}/{REVISION}", *BOTH), "twice"),
        (under(f"{P}/licence/{REVISION}", *BOTH, *SHARDS), "more"),
        (under(f"{P}/licence/{REVISION}", "license", "qwenkit.json"), "more"),
        (under(f"{P}/licence/{REVISION}", "LICENSE"), "no-manifest"),
    ],
)
def test_a_folder_named_by_its_revision(state, told):
    is_told("01.3", grade("01.3", **state), told)


@pytest.mark.parametrize(
    ("id_", "answer", "state"),
    [
        ("01.1", 1, {}),
        ("01.1", 1, {"without": SHARDS, "bucket": {f"{P}/model.safetensors": "…" * 1000}}),
        ("01.1", 1, under(f"{P}/tokenizer", *WHOLE)),  # the other exercises come in no way
        ("01.2", None, under(f"{P}/tokenizer", *WHOLE)),
        ("01.3", None, under(f"{P}/licence/{REVISION}", *BOTH)),
        ("01.3", None, under(f"{P}/licence/{'a' * 40}", *BOTH)),
    ],
)
def test_a_right_way_passes(id_, answer, state):
    assert grade(id_, answer, **state) == PASSED


@pytest.mark.parametrize("id_", ["01.1", "01.2", "01.3"])
@pytest.mark.parametrize("without", [(), [*SMALL, *SHARDS, "qwenkit.json"]])
def test_untouched_it_is_not_done_yet(id_, without):
    assert grade(id_, without=without) == TODO


def test_a_small_folder_and_an_empty_one_do_not_turn_one_into_everything():
    left = ("config.json", "qwenkit.json")
    small = [key.removeprefix(f"{P}/") for key in MODEL if not key.endswith(left)]
    assert grade("01.1", 1, without=small).wrong not in ("everything", "the-rest")
    is_told("01.1", find("01.1").grade(GivenFacts(Settings(), answer=1)), "no-manifest")


def test_a_folder_made_in_the_console_is_no_file():
    folder = f"{P}/licence"
    files = {f"{folder}/{REVISION}/{name}": "…" for name in ("", "LICENSE", "qwenkit.json")}
    assert grade("01.3", bucket=files | {f"{folder}/": ""}) == PASSED
    assert grade("01.3", bucket={f"{folder}/": ""}) == TODO
    assert grade("01.2", bucket={f"{P}/tokenizer/": ""}) == TODO
