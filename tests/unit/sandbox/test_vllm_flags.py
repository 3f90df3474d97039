"""What a real vLLM on a CPU is given of the flags that were written for a GPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.errors import SandboxError
from qwenkit.sandbox.engine import flags as modelled
from qwenkit.sandbox.kubelet import vllm_flags
from qwenkit.sandbox.kubelet.vllm_flags import LEFT_OUT, PASSED, read, translate

FIXED = (
    *("serve", "/here", "--host", "127.0.0.1", "--port", "5000", "--dtype", "float32"),
    *("--load-format", "safetensors"),
)


def translated(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = translate(read(text.split()), folder="/here", port=5000)
    assert found.argv[: len(FIXED)] == FIXED
    assert found.argv[len(FIXED)] == "--enforce-eager"
    return found.argv[len(FIXED) + 1 :], found.notes


def test_the_documented_line() -> None:
    rest, notes = translated(
        "--port 8080 --trust-remote-code --served-model-name qwen --model /Qwen-7B-Chat-Int8"
        " --gpu-memory-utilization 0.95 --quantization gptq --max-model-len=6144 --dtype half"
        " --enforce-eager"
    )
    assert rest == ("--served-model-name", "qwen", "--max-model-len", "6144")
    assert notes == (
        "--trust-remote-code left out: code from a bucket does not run on this machine",
        "--gpu-memory-utilization 0.95 left out: there is no GPU",
        "--quantization gptq left out: the sandbox's model is not quantised",
        "--model /Qwen-7B-Chat-Int8: a copy of the volume's files",
        "--port 8080: 127.0.0.1:5000 here",
        "--load-format safetensors: a pickle from a bucket is code",
        "--dtype half: float32, in which a CPU computes",
    )


def test_short_names_and_underscores_are_the_same_flags() -> None:
    rest, notes = translated("--model /m --served_model_name a b -q gptq -tp 2 --swap_space=4")
    assert rest == ("--served-model-name", "a", "b")
    assert [note.split()[0] for note in notes[:3]] == [
        "--quantization",
        "--tensor-parallel-size",
        "--swap-space",
    ]


def test_without_a_served_name_it_is_the_folder_that_the_container_sees() -> None:
    assert translated("--model /m/")[0] == ("--served-model-name", "/m")


def test_a_tokenizer_in_the_volume_is_found_here() -> None:
    rest, _ = translated("--model /m --served-model-name q --tokenizer /m --tokenizer=/m/t")
    assert rest[2:] == ("--tokenizer", "/here", "--tokenizer", "/here/t")


@pytest.mark.parametrize(
    "hostile",
    [
        "--trust-remote-code",
        "--trust_remote_code",
        "--trust-remote",  # argparse completes it
        "--tool-parser-plugin /m/evil.py",
        "--tool-call-parser /m/evil.py",
        "--middleware evil.Module",
        "--logits-processors evil:Class",
        "--logits-processor-pattern .*",
        "--worker-cls evil.Worker",
        "--chat-template {{x}}",
        "--chat-template /m/t.jinja",
        "--config /etc/passwd",
        "--download-dir /",
        "--load-format pt",
        "--hf-config-path hub/evil",
        "--hf-overrides {}",
        "--tokenizer evil/hub",
        "--tokenizer /m/../../etc",
        "--tokenizer /mine",
        "--tokenizer-mode custom",
        "--generation-config /etc",
        "--allowed-local-media-path /",
        "--otlp-traces-endpoint http://evil.example",
        "--kv-transfer-config {}",
        "--served-model-name=--trust-remote-code",
        "--served-model-name q --max-model-len=@/etc/passwd",
        "--seed=--config",
        "--disable-log-stats @/etc/passwd",
        "--enable-prefix-caching=--config=/x",
        "-O3 -cc {} @file",
    ],
)
def test_no_flag_runs_code_or_reads_this_machine(hostile: str) -> None:
    rest, notes = translated(f"--model /m {hostile}")
    assert rest in (("--served-model-name", "/m"), ("--served-model-name", "q"))
    assert [note for note in notes if " left out: " in note]


def test_a_secret_is_in_no_argument_and_no_note() -> None:
    line = read(["--model", "/m", "--api-key", "s3cret", "--hf-token=s3cret"])
    found = translate(line, folder="/here", port=5000)
    assert line.api_key == "s3cret"
    assert "s3cret" not in " ".join((*found.argv, *found.notes))


def test_a_port_that_is_no_number_ends_it_as_argparse_does() -> None:
    with pytest.raises(SandboxError, match="invalid int value: 'http'") as caught:
        _ = read(["--port", "http"]).port
    assert caught.value.context["exit_code"] == 2


def test_the_last_of_a_repeated_flag_counts() -> None:
    line = read(["--port", "1", "--model", "/a", "--port=2", "--model", "/b"])
    assert (line.port, line.model) == (2, "/b")


words = st.lists(st.sampled_from(["a", "1", "/x", "0.5", "-", "--config", "@f", ""]), max_size=3)
names = st.sampled_from(["--x", "-O", *sorted(LEFT_OUT), *sorted(PASSED)])


@given(st.lists(st.tuples(names, words, st.booleans()), max_size=6))
def test_only_listed_flags_are_passed_on(flags: list[tuple[str, list[str], bool]]) -> None:
    argv = ["--model", "/model"]
    for name, values, equals in flags:
        argv += [f"{name}={values[0]}", *values[1:]] if values and equals else [name, *values]
    found = translate(read(argv), folder="/here", port=5000)
    rest = found.argv[len(FIXED) + 1 :]
    assert {word for word in rest if word.startswith("-")} <= {"--tokenizer", *PASSED}
    assert not [word for word in rest if word.startswith("@")]


def test_both_engines_read_the_same_model_and_port() -> None:
    for text in ("", "--port 8080 --model /m", "--model=/m/ --port=9000"):
        theirs, ours = modelled.parse(text.split()), vllm_flags.read(text.split())
        assert (theirs.port, theirs.model.rstrip("/")) == (ours.port, ours.model)
