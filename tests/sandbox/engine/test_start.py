"""How a server starts or does not: its flags, its files, its GPU."""

from __future__ import annotations

import pytest
from node_world import COMMAND, model_files

from qwenkit.errors import SandboxError
from qwenkit.sandbox.engine import checkpoint, flags, hardware

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_the_documentations_flags() -> None:
    found = flags.parse(COMMAND.split()[3:])
    assert found.port == 8080
    assert found.served_names == ("qwen",)
    assert found.model == "/Qwen-7B-Chat-Int8"
    assert (found.quantization, found.max_model_len) == ("gptq", 6144)
    assert found.gpu_memory_utilization == 0.95


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--foo"], "api_server.py: error: unrecognized arguments: --foo"),
        (["--port", "x"], "argument --port: invalid int value: 'x'"),
        (["--dtype", "fp16"], "argument --dtype: invalid choice: 'fp16'"),
        (["--quantization", "gptq_marlin"], "argument --quantization/-q: invalid choice"),
        (["--model"], "argument --model: expected one argument"),
    ],
)
def test_wrong_flags_end_with_argparses_words(args: list[str], words: str) -> None:
    with pytest.raises(SandboxError) as caught:
        flags.parse(args)
    assert caught.value.what.startswith("usage: api_server.py")
    assert words in caught.value.what
    assert caught.value.context["exit_code"] == 2


def test_help_ends_well() -> None:
    with pytest.raises(SandboxError) as caught:
        flags.parse(["--help"])
    assert caught.value.context["exit_code"] == 0


def broken(name: str, data: bytes | None) -> str:
    files = {one: content for one, content in model_files().items() if one != name}
    if data is not None:
        files[name] = data
    with pytest.raises(SandboxError) as caught:
        checkpoint.load(files, "/m")
    assert caught.value.context["exit_code"] == 1
    assert caught.value.what.startswith("Traceback (most recent call last):")
    return caught.value.what.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("config.json", None, "OSError: /m does not appear to have a file named config.json"),
        ("config.json", b"{", "'/m/config.json' is not a valid JSON file"),
        ("config.json", b"[]", "'/m/config.json' is not a valid JSON file"),
        (INDEX, None, "RuntimeError: Cannot find any model weights with `/m`"),
        (INDEX, b"{}", f"/m/{INDEX}"),
        (FIRST, None, f'FileNotFoundError: No such file or directory: "/m/{FIRST}"'),
        (FIRST, b"", f"HeaderTooSmall: /m/{FIRST}"),
        (FIRST, b"\xff" * 64, f"HeaderTooLarge: /m/{FIRST}"),
        (FIRST, (99).to_bytes(8, "little") + b"{}", f"InvalidHeaderLength: /m/{FIRST}"),
        (FIRST, (2).to_bytes(8, "little") + b"{(", f"InvalidHeaderDeserialization: /m/{FIRST}"),
        (SECOND, model_files()[SECOND][:-1], f"MetadataIncompleteBuffer: /m/{SECOND}"),
        (SECOND, model_files()[FIRST], f"/m/{SECOND}"),
        ("tokenizer.json", None, "tokenizer.json"),
        ("tokenizer.json", b"{}", "/m/tokenizer.json"),
    ],
)
def test_a_missing_or_broken_file_is_named(name: str, data: bytes | None, words: str) -> None:
    assert words in broken(name, data)


def test_the_gpu_decides_what_fits() -> None:
    good = flags.parse(COMMAND.split()[3:])
    gpu, longest = hardware.fit("V100-16", good, {"torch_dtype": "float16"})
    assert longest == 6144
    assert gpu.kv_tokens % good.block_size == 0
    assert 9_000 < gpu.kv_tokens < 12_000
    assert hardware.fit("A10", good, {})[0].kv_tokens > 2 * 9_000
    assert gpu.decode_seconds(8, 1024) > gpu.decode_seconds(1, 512)
    assert gpu.prefill_seconds(1024) > gpu.prefill_seconds(10)


@pytest.mark.parametrize(
    ("more", "config", "words"),
    [
        ((), {"torch_dtype": "bfloat16"}, "Bfloat16 is only supported on GPUs with compute"),
        (("--dtype", "bfloat16"), {}, "Tesla V100-SXM2-16GB GPU has compute capability 7.0"),
        (("--dtype", "float32"), {}, "torch.float32 is not supported for quantization method gptq"),
        (("--max-model-len", "32768"), {}, "The model's max seq len (32768) is larger than"),
        (
            ("--max-model-len", "8193"),
            {"max_position_embeddings": 8192},
            "User-specified max_model_len (8193) is greater than the derived max_model_len "
            "(max_position_embeddings=8192 or model_max_length=None in model's config.json).",
        ),
        (
            ("--max-num-batched-tokens", "2048"),
            {},
            "max_num_batched_tokens (2048) is smaller than max_model_len (6144).",
        ),
        (
            ("--max-num-seqs", "9000"),
            {},
            "max_num_batched_tokens (6144) must be greater than or equal to max_num_seqs (9000).",
        ),
        (("--num-gpu-blocks-override", "100"), {}, "stored in KV cache (1600)"),
        (("--gpu-memory-utilization", "0.5"), {}, "No available memory for the cache blocks"),
        (("--gpu-memory-utilization", "1.5"), {}, "GPU memory utilization must be less than 1.0"),
    ],
)
def test_what_does_not_fit_ends_the_server(
    more: tuple[str, ...], config: dict[str, str], words: str
) -> None:
    chosen = flags.parse([*COMMAND.split()[3:], *more])
    with pytest.raises(SandboxError) as caught:
        hardware.fit("V100-16", chosen, config)
    assert words in caught.value.what
    assert caught.value.context["exit_code"] == 1


def test_the_models_own_length_is_the_default() -> None:
    chosen = flags.parse(["--model", "/m", "--gpu-memory-utilization", "0.95"])
    assert hardware.fit("V100-16", chosen, {"max_position_embeddings": 4096})[1] == 4096


def test_half_helps_a_bfloat16_model() -> None:
    chosen = flags.parse([*COMMAND.split()[3:], "--dtype", "half"])
    assert hardware.fit("V100-16", chosen, {"torch_dtype": "bfloat16"})


def test_the_documentations_prompt_is_ten_tokens() -> None:
    text = checkpoint.load(model_files(), "/m").tokenizer
    assert len(text.chat([{"role": "user", "content": "杭州西湖"}])) == 10
