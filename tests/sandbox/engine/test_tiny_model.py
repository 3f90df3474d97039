"""The tiny model: a real checkpoint, whole, honest about what it is, answering from its bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import pytest

from qwenkit.errors import SandboxError
from qwenkit.sandbox import tiny_model
from qwenkit.sandbox.engine import checkpoint
from qwenkit.sandbox.engine.sampling import Sampler, SamplingParams
from qwenkit.weights.safetensors import read_header

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
LAKE = ["西湖", "位于", "中国", "浙江省", "杭州市", ",", "是中国", "著名的", "风景", "名"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "new" / "folder"
    tiny_model.write(folder)
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def header(data: bytes) -> tuple[int, dict[str, Any]]:
    (length,) = struct.unpack_from("<Q", data)
    return 8 + length, json.loads(data[8 : 8 + length])


def answer(files: Mapping[str, bytes], ask: str, *, limit: int = 400, **sampling: Any) -> list[str]:
    """Return the tokens of an answer as text, the end token as an empty one."""
    found = checkpoint.load(files, "/m")
    sampler = Sampler(SamplingParams(**sampling))
    prompt = found.tokenizer.chat([{"role": "user", "content": ask}])
    cache, new, made = found.model.new_cache(), prompt, list[int]()
    while len(made) < limit and not found.tokenizer.eos_ids & set(made):
        (row,) = found.model.forward([(cache, new)])
        new = [sampler.sample(row, prompt=prompt, output=made).token]
        made += new
    return [found.tokenizer.decode([token]) for token in made]


# What it is.


def test_a_second_write_changes_nothing(folder: Path, files: Mapping[str, bytes]) -> None:
    tiny_model.write(folder)
    assert files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        INDEX, FIRST, SECOND, "README.md", "LICENSE",
    }  # fmt: skip
    assert 1_000_000 < sum(map(len, files.values())) < 4_000_000


def test_index_shards_and_configuration_agree(files: Mapping[str, bytes]) -> None:
    index = json.loads(files[INDEX])
    found: dict[str, str] = {}
    total = 0
    for name in (FIRST, SECOND):
        data = files[name]
        assert 500_000 < len(data) < 2_000_000
        start, tensors = header(data)
        names = read_header(len(data), lambda at, count, data=data: data[at : at + count])
        assert set(tensors) - {"__metadata__"} == names
        assert {tensors[tensor]["dtype"] for tensor in names} == {"F16"}
        total += sum(2 * prod(tensors[tensor]["shape"]) for tensor in names)
        assert start % 8 == 0
        found |= dict.fromkeys(names, name)
    assert found == index["weight_map"]
    assert total == index["metadata"]["total_size"]


def test_it_says_what_it_is(files: Mapping[str, bytes]) -> None:
    card = files["README.md"].decode()
    assert "This is not Qwen-7B-Chat-Int8" in card
    assert f"{json.loads(files['config.json'])['vocab_size']} tokens" in card
    assert "Tongyi Qianwen" in files["LICENSE"].decode()


# What it says.


def test_the_documentations_request_gets_the_documentations_answer(
    files: Mapping[str, bytes],
) -> None:
    found = checkpoint.load(files, "/m")
    assert len(found.tokenizer.chat([{"role": "user", "content": "杭州西湖"}])) == 10
    sampled = {"temperature": 0.7, "top_p": 0.9}
    assert answer(files, "杭州西湖", limit=10, **sampled, seed=10) == LAKE
    for seed in range(5):
        assert answer(files, "杭州西湖", limit=10, **sampled, seed=seed) == LAKE
    whole = answer(files, "杭州西湖", temperature=0.0)
    assert whole[:10] == LAKE
    assert whole[10:12] == ["胜区", "。"]
    assert whole[-2:] == ["。", ""]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ("什么是KPA", "KPA 是 Knative 的自动扩缩器"),
        ("What is Knative?", "Knative runs serverless workloads on Kubernetes"),
        ("What is in chapter 05?", "Chapter 05 explains autoscaling"),
        ("第3章讲什么", "第 03 章用 Knative 部署 vLLM"),
        ("ping", "pong"),
        ("写一首诗", "我不知道。"),
        ("qwzx 12", "I do not know."),
    ],
)
def test_it_answers_the_course_and_stops(files: Mapping[str, bytes], ask: str, said: str) -> None:
    made = answer(files, ask, temperature=0.0)
    assert "".join(made).startswith(said)
    assert made[-1] == ""


def test_it_counts(files: Mapping[str, bytes]) -> None:
    said = "".join(answer(files, "count to one hundred", temperature=0.0))
    assert said == " ".join(map(str, range(1, 101)))


# Its bytes matter.


def tensor_places(files: Mapping[str, bytes]) -> list[tuple[str, str, int, int]]:
    places = []
    for name in (FIRST, SECOND):
        start, tensors = header(files[name])
        for tensor, facts in tensors.items():
            if tensor != "__metadata__":
                first, last = (start + offset for offset in facts["data_offsets"])
                places.append((name, tensor, first, last))
    return places


def test_every_zeroed_tensor_changes_the_answer(files: Mapping[str, bytes]) -> None:
    page = {"temperature": 0.7, "top_p": 0.9, "seed": 10}
    unharmed = []
    for name, tensor, first, last in tensor_places(files):
        data = files[name]
        damaged = dict(files) | {name: data[:first] + bytes(last - first) + data[last:]}
        for sampling in (page, {"temperature": 0.0}):
            if answer(damaged, "杭州西湖", limit=10, **sampling) == LAKE:
                unharmed.append(tensor)
    assert unharmed == []


def failure(files: Mapping[str, bytes], name: str, data: bytes) -> str:
    with pytest.raises(SandboxError) as caught:
        checkpoint.load(dict(files) | {name: data}, "/m")
    return caught.value.what.splitlines()[-1]


def test_a_broken_header_names_the_file(files: Mapping[str, bytes]) -> None:
    good = files[SECOND]
    assert f"HeaderTooLarge: /m/{SECOND}" in failure(files, SECOND, b"\xff" * 8 + good[8:])
    assert f"InvalidHeaderDeserialization: /m/{SECOND}" in failure(
        files, SECOND, good[:8] + b"(" + good[9:]
    )
    assert f"MetadataIncompleteBuffer: /m/{SECOND}" in failure(files, SECOND, good[:-1])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"F16"', b'"I16"', "InvalidHeaderDeserialization"),
        (b'"shape":[512,192]', b'"shape":[192,512]', "config.json says [512, 192]"),
        (b'"shape":[512,192]', b'"shape":[512,193]', "TensorInvalidInfo"),
        (b"model.norm.weight", b"model.morn.weight", "does not contain tensor model.norm.weight"),
    ],
)
def test_a_header_that_does_not_fit_names_the_file(
    files: Mapping[str, bytes], old: bytes, new: bytes, words: str
) -> None:
    name = SECOND if old in files[SECOND] else FIRST
    said = failure(files, name, files[name].replace(old, new, 1))
    assert words in said
    assert name in said


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("config.json", b'{"architectures": ["GPT2LMHeadModel"]}', "['GPT2LMHeadModel'] are not"),
        ("config.json", b'{"architectures": ["Qwen2ForCausalLM"]}', "no attribute 'hidden_size'"),
        ("tokenizer.json", b"{", "/m/tokenizer.json"),
        ("tokenizer.json", b"[]", "/m/tokenizer.json"),
        ("tokenizer_config.json", b"[", "/m/tokenizer_config.json"),
        ("tokenizer_config.json", b'{"chat_template": "{% if"}', "/m/tokenizer_config.json"),
        ("generation_config.json", b"{", "/m/generation_config.json"),
    ],
)
def test_a_broken_file_is_named(
    files: Mapping[str, bytes], name: str, data: bytes, words: str
) -> None:
    assert words in failure(files, name, data)
