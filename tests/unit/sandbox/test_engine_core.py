"""The engine's core against recordings of real transformers and real vLLM, and by itself."""

from __future__ import annotations

import base64
import gzip
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA

from qwenkit.errors import InvalidValue
from qwenkit.sandbox import tiny_model
from qwenkit.sandbox.engine import checkpoint
from qwenkit.sandbox.engine.checkpoint import LoadedModel
from qwenkit.sandbox.engine.releases import Release
from qwenkit.sandbox.engine.sampling import SampledToken, Sampler, SamplingParams
from qwenkit.sandbox.engine.tokenizer import Detokenizer
from qwenkit.sandbox.engine.transformer import Array, ModelShape, Transformer

Json = dict[str, Any]


@cache
def model_files(stands_for: str = tiny_model.DEFAULT) -> Mapping[str, bytes]:
    return tiny_model.contents(stands_for)


@cache
def tiny(stands_for: str = tiny_model.DEFAULT) -> LoadedModel:
    return checkpoint.load(model_files(stands_for), "/m", Release((0, 26, 0)))


@cache
def recorded(engine: str) -> list[Json]:
    with gzip.open(DATA / f"tiny-{engine}.json.gz") as file:
        answers: list[Json] = json.load(file)["answers"]
    return answers


@cache
def steps(number: int) -> tuple[list[int], list[Array]]:
    """Answer a recorded prompt greedily; return the tokens and the logits each was chosen from."""
    return answered(tiny().model, recorded("model-transformers")[number])


def answered(model: Transformer, told: Json) -> tuple[list[int], list[Array]]:
    held = model.new_cache()
    made: list[int] = []
    rows: list[Array] = []
    new = told["prompt"]
    for _ in told["tokens"]:
        (row,) = model.forward([(held, new)])
        rows.append(row)
        made.append(int(np.argmax(row)))
        new = made[-1:]
    return made, rows


def logits_after(model: Transformer, first: Sequence[int], rest: Sequence[int] = ()) -> Array:
    """Return the logits after ``first`` and after each token of the rest, without a cache."""
    prefixes = [[*first, *rest[:end]] for end in range(len(rest) + 1)]
    return model.forward([(model.new_cache(), prefix) for prefix in prefixes])


# Against real transformers and real vLLM.


@pytest.mark.parametrize("number", range(50))
def test_transformers_says_the_same(number: int) -> None:
    told = recorded("model-transformers")[number]
    assert tiny().tokenizer.chat(told["messages"]) == told["prompt"]
    made, rows = steps(number)
    assert made == told["tokens"]
    first = np.frombuffer(base64.b64decode(told["logits"]), "<f4")
    assert np.abs(rows[0] - first).max() < 1e-3
    for row, best in zip(rows, told["top_logits"], strict=True):
        assert max(abs(float(row[token]) - logit) for token, logit in best) < 1e-3
    whole = logits_after(tiny().model, told["prompt"], made[:-1])
    assert np.abs(whole - np.array(rows)).max() < 1e-3


@pytest.mark.parametrize("number", range(50))
def test_vllm_says_the_same(number: int) -> None:
    told = recorded("model-vllm")[number]
    assert tiny().tokenizer.chat(told["messages"]) == told["prompt"]
    made, rows = steps(number)
    assert made == told["tokens"]
    sampler = Sampler(SamplingParams(temperature=0.0), logprobs=20)
    for row, best in zip(rows, told["top_logprobs"], strict=True):
        mine = dict(sampler.sample(row, prompt=(), output=()).top)
        shared = [(mine[token], logprob) for token, logprob in best if token in mine]
        assert len(shared) >= 18  # the twentieth may be a draw
        assert max(abs(one - other) for one, other in shared) < 1e-3


@pytest.mark.parametrize("number", range(10))
def test_transformers_says_the_same_of_qwen3(number: int) -> None:
    told, qwen3 = recorded("qwen3-transformers")[number], tiny("Qwen3-8B")
    assert qwen3.tokenizer.chat(told["messages"]) == told["prompt"]
    made, rows = answered(qwen3.model, told)
    assert made == told["tokens"]
    first = np.frombuffer(base64.b64decode(told["logits"]), "<f4")
    assert np.abs(rows[0] - first).max() < 1e-3


@pytest.mark.parametrize("number", range(6))
def test_every_architecture_computes_what_transformers_does(number: int) -> None:
    with gzip.open(DATA / "tiny-model-shapes.json.gz") as file:
        told = json.load(file)["answers"][number]
    draw = np.random.default_rng(number)
    shapes = sorted(ModelShape.read(told["config"]).tensors().items())
    model = Transformer(
        told["config"], {name: draw.normal(size=size) * 0.3 for name, size in shapes}
    )
    assert told["prompt"] == draw.integers(0, model.vocab_size, 24).tolist()
    (row,) = model.forward([(model.new_cache(), told["prompt"])])
    np.testing.assert_allclose(row, told["logits"], atol=1e-4)


# The transformer by itself.

prompts = st.lists(st.integers(0, tiny().model.vocab_size - 1), min_size=1, max_size=150)


@settings(max_examples=25)
@given(st.lists(st.tuples(prompts, st.integers(1, 150)), min_size=1, max_size=5))
def test_neither_the_batch_nor_the_pieces_change_a_sequence(
    asked: list[tuple[list[int], int]],
) -> None:
    """Sequences advance by pieces of different lengths, so prefill and decode are mixed."""
    model = tiny().model
    caches = [model.new_cache() for _ in asked]
    last: dict[int, Array] = {}
    while batch := [
        (number, tokens[caches[number].length :][:piece])
        for number, (tokens, piece) in enumerate(asked)
        if caches[number].length < len(tokens)
    ]:
        rows = model.forward([(caches[number], piece) for number, piece in batch])
        last |= {number: row for (number, _), row in zip(batch, rows, strict=True)}
    for number, (tokens, _) in enumerate(asked):
        assert caches[number].length == len(tokens)
        (alone,) = logits_after(model, tokens)
        np.testing.assert_allclose(last[number], alone, atol=2e-4)
        assert np.argmax(last[number]) == np.argmax(alone)


def random_model(**sizes: Any) -> Transformer:
    config = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 32,
    } | sizes
    draw = np.random.default_rng(0)
    shapes = ModelShape.read(config).tensors()
    return Transformer(config, {name: draw.normal(size=size) for name, size in shapes.items()})


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_token_sees_those_before_it_and_no_other(kv_heads: int, tied: bool) -> None:
    model = random_model(num_key_value_heads=kv_heads, tie_word_embeddings=tied)
    before, after = (logits_after(model, [1], rest) for rest in ([2, 3, 4, 5], [2, 9, 4, 5]))
    np.testing.assert_array_equal(before[:2], after[:2])
    assert (before[2:] != after[2:]).any(axis=1).all()


def test_order_matters() -> None:
    model = random_model()
    assert not np.allclose(logits_after(model, [1, 2, 3]), logits_after(model, [2, 1, 3]))


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({}, KeyError),
        ({"num_key_value_heads": 4}, ValueError),
        ({"vocab_size": 0}, ValueError),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, ValueError),
        ({"layer_types": ["full_attention", "sliding_attention"]}, ValueError),
    ],
)
def test_sizes_that_do_not_fit_are_refused(config: Json, error: type[Exception]) -> None:
    good = json.loads(model_files()["config.json"]) if config else {}
    with pytest.raises(error):
        ModelShape.read(good | config)


# Sampling.

WORDS = 12
logits = st.lists(st.floats(-8, 8, width=32), min_size=WORDS, max_size=WORDS).map(
    lambda values: np.array(values, np.float32)
)


def picks(row: Array, count: int, **sampling: Any) -> list[SampledToken]:
    sampler = Sampler(SamplingParams(**sampling), logprobs=WORDS)
    return [sampler.sample(row, prompt=(), output=()) for _ in range(count)]


def kept(row: Array, **sampling: Any) -> set[int]:
    """Return the tokens that have any probability left."""
    (pick,) = picks(row, 1, **sampling)
    return {token for token, logprob in pick.top if logprob > -math.inf}


def shares(row: Array) -> Array:
    found: Array = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
    return found


@given(logits)
def test_zero_temperature_takes_the_most_probable(row: Array) -> None:
    (pick,) = picks(row, 1, temperature=0.0, top_p=0.1, top_k=1)
    assert row[pick.token] == row.max()
    assert math.exp(pick.logprob) == pytest.approx(shares(row)[pick.token], rel=1e-4)
    assert sum(math.exp(logprob) for _, logprob in pick.top) == pytest.approx(1.0)
    assert [logprob for _, logprob in pick.top] == sorted(dict(pick.top).values(), reverse=True)


@given(logits, st.integers(-(2**63), 2**64), st.integers(0, 3))
def test_a_seed_makes_the_choices_its_own(row: Array, seed: int, choice: int) -> None:
    made = []
    for _ in range(2):
        sampler = Sampler(SamplingParams(seed=seed), choice=choice)
        made.append([sampler.sample(row, prompt=(), output=()).token for _ in range(5)])
    assert made[0] == made[1]


def test_seeds_and_choices_differ() -> None:
    row = np.zeros(1000, np.float32)
    made = {
        Sampler(SamplingParams(seed=seed), choice=choice).sample(row, prompt=(), output=()).token
        for seed in range(5)
        for choice in range(5)
    }
    assert len(made) > 15


def test_samples_follow_the_distribution() -> None:
    row = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    made = np.bincount([pick.token for pick in picks(row, 2000, seed=1)], minlength=4) / 2000
    np.testing.assert_allclose(made, [0.5, 0.3, 0.15, 0.05], atol=0.04)
    hot = np.bincount([pick.token for pick in picks(row, 2000, seed=1, temperature=2.0)]) / 2000
    np.testing.assert_allclose(hot, shares(row / 2), atol=0.04)


@given(logits, st.floats(0.05, 0.95))
def test_top_p_keeps_the_least_tokens_that_make_up_its_mass(row: Array, top_p: float) -> None:
    left = kept(row, top_p=top_p)
    found = shares(row.astype(np.float64))
    mass, least = sum(found[token] for token in left), min(found[token] for token in left)
    assert mass >= top_p - 1e-6
    assert mass - least < top_p + 1e-6
    assert all(found[token] <= least + 1e-6 for token in {*range(WORDS)} - left)


@given(logits, st.integers(1, WORDS))
def test_top_k_keeps_as_many_and_what_equals_the_last(row: Array, top_k: int) -> None:
    least = np.sort(row)[-top_k]
    assert kept(row, top_k=top_k) == set(np.flatnonzero(row >= least).tolist())


def changed(sampling: SamplingParams, prompt: Sequence[int], output: Sequence[int]) -> list[float]:
    """Return how log probabilities of equal tokens differ from that of token 9."""
    row = np.full(10, 2.0, np.float32)
    top = Sampler(sampling, logprobs=10).sample(row, prompt=prompt, output=output).top
    found = dict(top)
    return [round(found[token] - found[9], 6) for token in range(4)]


def test_penalties_are_those_of_the_api() -> None:
    prompt, output = (1, 2), (2, 3, 3)
    assert changed(SamplingParams(presence_penalty=0.5), prompt, output) == [0, 0, -0.5, -0.5]
    assert changed(SamplingParams(frequency_penalty=0.5), prompt, output) == [0, 0, -0.5, -1.0]
    assert changed(SamplingParams(repetition_penalty=2.0), prompt, output) == [0, -1.0, -1.0, -1.0]


def test_what_is_no_number_becomes_the_first_token() -> None:
    row = np.full(8, np.nan, np.float32)
    assert {pick.token for pick in picks(row, 5, top_p=0.9)} == {0}
    assert tiny().tokenizer.decode([0, 0, 0]) == "!!!"


# Text.


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cn"])))
def test_any_text_comes_back_whole_characters_at_a_time(drawn: str) -> None:
    text = unicodedata.normalize("NFC", drawn)
    ids = tiny().tokenizer.encode(text)
    pieces = list(map(Detokenizer(tiny().tokenizer).push, ids))
    assert "".join(pieces) == text
    assert tiny().tokenizer.decode(ids, skip_special_tokens=False) == text


def test_a_lone_surrogate_is_text_too() -> None:
    assert tiny().tokenizer.decode(tiny().tokenizer.encode("a\ud800b")) == "a?b"


@given(st.lists(st.integers(0, tiny().model.vocab_size - 1)))
def test_pieces_of_any_tokens_join_to_their_text(ids: list[int]) -> None:
    text = tiny().tokenizer
    joined = "".join(map(Detokenizer(text).push, ids))
    # Bytes at the very end that begin a character are held back for ever.
    assert text.decode(ids).removesuffix("\ufffd").startswith(joined.removesuffix("\ufffd"))
    assert len(text.decode(ids)) - len(joined) <= 1


def test_marks_are_no_text() -> None:
    text = tiny().tokenizer
    (end,) = text.encode("<|im_end|>")
    assert end in text.eos_ids
    assert text.decode([end]) == ""
    assert Detokenizer(text).push(end) == ""
    assert text.decode([end], skip_special_tokens=False) == "<|im_end|>"


def test_a_template_may_refuse() -> None:
    template = "{{ raise_exception('roles must alternate') }}"
    changed_files = dict(model_files()) | {
        "tokenizer_config.json": json.dumps({"chat_template": template}).encode()
    }
    with pytest.raises(InvalidValue) as caught:
        checkpoint.load(changed_files, "/m").tokenizer.chat([{"role": "user", "content": "hi"}])
    assert caught.value.rule == "roles must alternate"
