"""The stand-in model: valid files, the same every time, and honest about what it is."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import pytest

from qwenkit.sandbox import tiny_model

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "new" / "folder"
    tiny_model.write(folder)
    return folder


def read_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    return header, data[8 + length :]


def load(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_two_writes_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    tiny_model.write(tmp_path)
    tiny_model.write(tmp_path)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(files) >= {"config.json", "answers.json", "README.md", "LICENSE", INDEX}


def test_index_and_shards_agree(folder: Path) -> None:
    index = load(folder / INDEX)
    found: dict[str, str] = {}
    total = 0
    for name in sorted(set(index["weight_map"].values())):
        header, data = read_safetensors(folder / name)
        assert 500_000 < len(data) < 2_000_000
        end = 0
        for tensor, facts in header.items():
            assert facts["data_offsets"] == [end, end + 2 * prod(facts["shape"])]
            assert facts["dtype"] == "F16"
            end = facts["data_offsets"][1]
            found[tensor] = name
        assert end == len(data)
        total += end
    assert found == index["weight_map"]
    assert total == index["metadata"]["total_size"]
    assert [path.name for path in sorted(folder.glob("*.safetensors"))] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_shapes_follow_the_configuration(folder: Path) -> None:
    config = load(folder / "config.json")
    shapes = {
        tensor: facts["shape"]
        for path in folder.glob("*.safetensors")
        for tensor, facts in read_safetensors(path)[0].items()
    }
    hidden = config["hidden_size"]
    assert shapes["model.embed_tokens.weight"] == [config["vocab_size"], hidden]
    last = f"model.layers.{config['num_hidden_layers'] - 1}"
    width = hidden * config["num_key_value_heads"] // config["num_attention_heads"]
    assert shapes[f"{last}.self_attn.k_proj.weight"] == [width, hidden]
    assert shapes[f"{last}.mlp.down_proj.weight"] == [hidden, config["intermediate_size"]]
    assert len({tensor for tensor in shapes if tensor.startswith(last)}) == 12


def test_weights_are_ordinary_numbers(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        header, data = read_safetensors(path)
        for tensor, facts in header.items():
            start, end = facts["data_offsets"]
            values = struct.unpack(f"<{(end - start) // 2}e", data[start:end])
            if tensor.endswith("norm.weight"):
                assert set(values) == {1.0}
            else:
                assert max(map(abs, values)) < 2**-6
                assert abs(sum(values) / len(values)) < 2**-7
                assert len(set(values)) > len(values) // 1000


def test_answers(folder: Path) -> None:
    table = load(folder / "answers.json")
    answers = {item["ask"]: item["tokens"] for item in table["answers"]}
    assert len(answers) == len(table["answers"]) >= 20
    lake = answers["杭州西湖"]
    first_ten = ["西湖", "位于", "中国", "浙江省", "杭州市", ",", "是中国", "著名的", "风景", "名"]
    assert lake[:10] == first_ten
    assert "".join(lake).startswith("西湖位于中国浙江省杭州市,是中国著名的风景名胜区。")
    assert all(token for tokens in answers.values() for token in tokens)
    assert "stand-in" in "".join(table["default"]["tokens"])


def test_it_says_what_it_is(folder: Path) -> None:
    assert "no language model" in (folder / "README.md").read_text("utf-8").lower()
    assert "Tongyi Qianwen" in (folder / "LICENSE").read_text("utf-8")
    for name in ("config.json", "quantize_config.json", "tokenizer_config.json", "answers.json"):
        assert load(folder / name)["_comment"]
