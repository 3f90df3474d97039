"""How a server starts or does not: its flags, its files, its GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from node_world import COMMAND, model_files

from qwenkit.capacity.scheduler import Step
from qwenkit.errors import SandboxError
from qwenkit.sandbox.engine import checkpoint, flags, hardware, newer_flags
from qwenkit.sandbox.engine.releases import Release

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


def prepared(
    chosen: flags.Flags, stands_for: str = "Qwen-7B-Chat-Int8", gpu: str = "V100-16", **more: Any
) -> hardware.Prepared:
    return hardware.prepare(hardware.Place(gpu, **more), chosen, {"stands_for": stands_for})


def test_the_gpu_decides_what_fits() -> None:
    good = flags.parse(COMMAND.split()[3:])
    found = prepared(good)
    gpu = found.hardware
    assert found.longest == 6144
    assert gpu.kv_tokens % good.block_size == 0
    assert 9_000 < gpu.kv_tokens < 12_000
    assert prepared(good, gpu="A10").hardware.kv_tokens > 2 * 9_000
    assert gpu.step_seconds(Step(8, 8, 8 * 1024)) > gpu.step_seconds(Step(1, 1, 512))
    long = Step(1024, 1, 1024, 1024, 1024 * 1025 // 2)
    assert gpu.step_seconds(long) > gpu.step_seconds(Step(10, 1, 10, 10, 55))


INT8, SMALL = "Qwen-7B-Chat-Int8", "Qwen1.5-0.5B-Chat"


@pytest.mark.parametrize(
    ("more", "stands_for", "words"),
    [
        (("--quantization", "None"), SMALL, "Bfloat16 is only supported on GPUs with compute"),
        (("--dtype", "bfloat16"), INT8, "Tesla V100-SXM2-16GB GPU has compute capability 7.0"),
        (("--dtype", "float32"), INT8, "torch.float32 is not supported for quantization method"),
        (("--dtype", "half"), SMALL, "Cannot find the config file for gptq"),
        (("--quantization", "awq"), INT8, "model config (gptq) does not match the quantization"),
        (
            ("--max-model-len", "8193"),
            INT8,
            "User-specified max_model_len (8193) is greater than the derived max_model_len "
            "(max_position_embeddings=8192 or model_max_length=None in model's config.json).",
        ),
        (
            ("--max-num-batched-tokens", "2048"),
            INT8,
            "max_num_batched_tokens (2048) is smaller than max_model_len (6144).",
        ),
        (
            ("--max-num-seqs", "9000"),
            INT8,
            "max_num_batched_tokens (6144) must be greater than or equal to max_num_seqs (9000).",
        ),
        (("--num-gpu-blocks-override", "100"), INT8, "stored in KV cache (1600)"),
        (("--gpu-memory-utilization", "0.5"), INT8, "No available memory for the cache blocks"),
        (("--gpu-memory-utilization", "1.5"), INT8, "GPU memory utilization must be less than 1.0"),
        (("-tp", "2"), INT8, "required GPUs exceeds the total number of available GPUs"),
        (("-tp", "3"), INT8, "heads (32) must be divisible by tensor parallel size (3)"),
    ],
)
def test_what_does_not_fit_ends_the_server(
    more: tuple[str, ...], stands_for: str, words: str
) -> None:
    chosen = flags.parse([*COMMAND.split()[3:], *more])
    with pytest.raises(SandboxError) as caught:
        prepared(chosen, stands_for)
    assert words in caught.value.what
    assert caught.value.context["exit_code"] == 1


@pytest.mark.parametrize(
    ("release", "gpu", "more", "words"),
    [
        ((0, 26, 0), "V100-16", (), "no kernel image is available for execution on the device"),
        ((0, 8, 5), "V100-32", (), "Bfloat16 is only supported on GPUs with compute"),
        ((0, 26, 0), "T4", ("--dtype", "bfloat16"), "Your Tesla T4 GPU has compute capability 7.5"),
        ((0, 26, 0), "T4", (), "No available memory for the cache blocks"),  # float16 by itself
        ((0, 26, 0), "A10", (), "larger than the available KV cache memory"),
        (
            (0, 26, 0),
            "A10",
            ("--no-enable-chunked-prefill", "--max-num-batched-tokens", "2k"),
            "max_num_batched_tokens (2000) is smaller than max_model_len (40960).",
        ),
        ((0, 26, 0), "A10", ("-tp", "2"), "World size (2) is larger than the number of available"),
    ],
)
def test_a_newer_release_says_why_it_does_not_start(
    release: tuple[int, int, int], gpu: str, more: tuple[str, ...], words: str
) -> None:
    chosen = newer_flags.parse(["/m", *more], Release(release))
    with pytest.raises(SandboxError) as caught:
        prepared(chosen, "Qwen3-8B", gpu)
    assert words in caught.value.what


@pytest.mark.parametrize(
    ("more", "tokens", "chunks"),
    [
        ((), 2048, True),
        (("--max-num-batched-tokens", "512"), 512, True),
        (("--no-enable-chunked-prefill",), 8192, False),
    ],
)
def test_a_step_of_v1_holds_a_number_of_tokens(
    more: tuple[str, ...], tokens: int, chunks: bool
) -> None:
    line = ["/m", "--max-model-len", "8K", *more]
    chosen = newer_flags.parse(line, Release((0, 26, 0)))
    assert prepared(chosen, "Qwen3-8B", "A10").hardware.step_tokens == tokens
    assert chosen.reads_in_chunks == chunks


def test_a_model_takes_what_it_stands_for_and_two_gpus_take_half() -> None:
    chosen = newer_flags.parse(["/m", "--max-model-len", "8k"], Release((0, 26, 0)))
    one = prepared(chosen, "Qwen3-8B", "A10")
    both = newer_flags.parse(["/m", "-tp", "2", "--max-model-len", "-1"], Release((0, 26, 0)))
    two = prepared(both, "Qwen3-8B", "A10", gpus=2)
    assert (one.longest, two.longest) == (8000, 40960)
    assert 15 < one.model.weights_bytes / 2**30 < 16
    assert two.hardware.kv_tokens > 3 * one.hardware.kv_tokens
    step = Step(1, 1, 100)
    assert two.hardware.step_seconds(step) < 0.65 * one.hardware.step_seconds(step)


@pytest.mark.parametrize(
    ("args", "release", "words"),
    [
        (["/m", "--swap-space", "4"], (0, 26, 0), "unrecognized arguments: --swap-space"),
        (["/m", "--safetensors-load-strategy", "eager"], (0, 8, 5), "unrecognized arguments: --s"),
        (["/m", "--max-model-len", "8q"], (0, 26, 0), "invalid human_readable_int value: '8q'"),
        (["/m", "--load-format", "x"], (0, 10, 2), "argument --load-format: invalid choice: 'x'"),
    ],
)
def test_a_newer_release_has_its_own_flags(
    args: list[str], release: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(SandboxError) as caught:
        newer_flags.parse(args, Release(release))
    assert words in caught.value.what
    assert caught.value.context["exit_code"] == 2


def test_newer_flags_are_read() -> None:
    text = "/m --max_model_len=8K --no-enable-prefix-caching -tp 2 --api-key a b --port 1"
    found = newer_flags.parse([*text.split(), "--served-model-name", "x"], Release((0, 26, 0)))
    assert (found.model, found.max_model_len, found.tensor_parallel) == ("/m", 8192, 2)
    assert (found.api_keys, found.served_names) == (("a", "b"), ("x",))


def test_an_old_release_does_not_know_qwen3() -> None:
    config = json.loads(model_files()["config.json"]) | {"architectures": ["Qwen3ForCausalLM"]}
    assert "does not recognize this architecture" in broken("config.json", _json(config))


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_the_models_own_length_is_the_default() -> None:
    chosen = flags.parse(["--model", "/m", "--gpu-memory-utilization", "0.95"])
    config = json.loads(model_files()["config.json"]) | {"max_position_embeddings": 4096}
    del config["stands_for"]
    found = hardware.prepare(hardware.Place("V100-16"), chosen, config)
    assert found.longest == 4096
    assert found.model.weights_bytes < 3e6  # a folder of one's own takes its own sizes


def test_half_helps_a_bfloat16_model() -> None:
    chosen = flags.parse([*COMMAND.split()[3:], "--dtype", "half"])
    assert prepared(replace(chosen, quantization=None), SMALL)


def test_the_documentations_prompt_is_ten_tokens() -> None:
    text = checkpoint.load(model_files(), "/m").tokenizer
    assert len(text.chat([{"role": "user", "content": "杭州西湖"}])) == 10
