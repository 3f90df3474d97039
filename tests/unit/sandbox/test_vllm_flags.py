"""What a real vLLM on a CPU is given of the flags that were written for a GPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.errors import SandboxError
from qwenkit.sandbox.engine import flags as modelled
from qwenkit.sandbox.kubelet import vllm_flags
from qwenkit.sandbox.kubelet.vllm_flags import LEFT_OUT, read, translate

FIXED = ("serve", "/here", "--host", "127.0.0.1", "--port", "5000", "--dtype", "float32")


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


def test_paths_in_the_model_s_folder_are_found_here() -> None:
    rest, _ = translated(
        "--model /m --served-model-name q --tokenizer /m --chat-template=/m/a.jinja --x /mine"
    )
    assert rest[2:] == ("--tokenizer", "/here", "--chat-template", "/here/a.jinja", "--x", "/mine")


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


words = st.lists(st.sampled_from(["a", "1", "/x", "0.5"]), max_size=3)
names = st.sampled_from(["--x", "--some-flag", "--another", *sorted(LEFT_OUT)])


@given(st.lists(st.tuples(names, words), max_size=6))
def test_unknown_flags_are_passed_on_and_those_of_the_table_are_not(
    given_flags: list[tuple[str, list[str]]],
) -> None:
    argv = ["--model", "/model", "--served-model-name", "q"]
    for name, values in given_flags:
        argv += [name, *values]
    found = translate(read(argv), folder="/here", port=5000)
    expected = [
        word for name, values in given_flags if name not in LEFT_OUT for word in (name, *values)
    ]
    assert list(found.argv[len(FIXED) + 3 :]) == expected
    left_out = [note for note in found.notes if " left out: " in note]
    assert len(left_out) == sum(name in LEFT_OUT for name, _ in given_flags)


def test_both_engines_read_the_same_model_and_port() -> None:
    for text in ("", "--port 8080 --model /m", "--model=/m/ --port=9000"):
        theirs, ours = modelled.parse(text.split()), vllm_flags.read(text.split())
        assert (theirs.port, theirs.model.rstrip("/")) == (ours.port, ours.model)
