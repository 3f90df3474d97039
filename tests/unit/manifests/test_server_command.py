"""How command lines of containers are read: each as the kubelet, a shell and vLLM would."""

from __future__ import annotations

from typing import Any

import pytest

from qwenkit.manifests.server_command import server_command

SERVER = "vllm/vllm-openai:v0.8.5"
ENV = [
    {"name": "ROOT", "value": "/models"},
    {"name": "MODEL", "value": "$(ROOT)/q"},
    {"name": "FROM", "valueFrom": {"fieldRef": {}}},
]


def read(command: list[str], args: list[str] | None = None, **more: Any) -> tuple[Any, ...]:
    found = server_command({"image": "x:1", "command": command, "args": args, "env": ENV, **more})
    assert found is not None
    return found.model, found.number("port", 8000), found.number("tensor-parallel-size", 1)


def shell(text: str, *positional: str) -> tuple[Any, ...]:
    return read(["bash", "-lc", text, *positional])


@pytest.mark.parametrize(
    "line",
    [
        "vllm serve /models/q --port=8080 -tp 2",
        "/usr/bin/env A=1 vllm serve --port 8080 -tp=2 /models/q",
        "vllm serve --served-model-name a b --trust-remote-code /models/q --port 8080 -tp 2",
        "python3 -u -m vllm.entrypoints.openai.api_server --model $(MODEL) --port $(PORT)"
        " --tensor_parallel_size 2",
        "python3 -mvllm.entrypoints.api_server --model=$(ROOT)/q --port 8080"
        " --disable-log-requests --tensor-parallel-size=2",
        "tini -- python3 /app/vllm/entrypoints/openai/api_server.py --port 8080 -tp 2"
        " --model /models/q",
    ],
)
def test_words(line: str) -> None:
    words = line.split()
    assert read(words) == ("/models/q", 8080, 2)
    assert read(words[:1], words[1:]) == ("/models/q", 8080, 2)


def test_the_image_may_start_vllm_itself() -> None:
    for image in (SERVER, "mirror.example.com/a/vllm-openai@sha256:0", "q/vllm-cpu-release-repo:1"):
        arguments = ["--model", "/models/q", "-tp", "2"]
        assert read([], arguments, image=image) == ("/models/q", 8000, 2)
        assert read([], ["/models/q"], image=image) == ("/models/q", 8000, 1)
    assert server_command({"image": "nginx:1", "args": ["--model", "/models/q"]}) is None


@pytest.mark.parametrize(
    "text",
    [
        "exec vllm serve /models/q --port $PORT -tp 2",
        "vllm serve $MODEL --port ${PORT:-1} -tp 2 2>&1 | tee /log",
        "# vllm serve /a\nset -e; cd / && vllm serve ${UNSET:-$ROOT/q} \\\n  --port 8080 -tp 2 #",
        'trap \'kill $!\' TERM; vllm serve "$ROOT"/q --port "${PORT}" -tp 2 & wait $!',
        "export M=/models/q PORT=8080\nP='--port 8080 -tp 2'\nvllm serve $M $P > /log",
        'if [ -n "$X" ]; then echo vllm serve /a; fi; exec bash -ec \'vllm serve /models/q'
        " --port 8080 -tp 2'",
        "cat <<EOF >/x.sh\nvllm serve /a\nEOF\nvllm serve /models/q --port 8080 -tp 2",
        "pip install -U vllm && (vllm serve '/models/q' --port 8080 -tp 2)",
    ],
)
def test_a_shell_text(text: str) -> None:
    assert shell(text) == ("/models/q", 8080, 2)


def test_the_words_after_a_shell_text_are_its_own() -> None:
    assert shell('exec vllm serve $1 "$@"', "sh", "--port=8080", "-tp", "2")[1:] == (8080, 2)
    assert read(["sh", "-eo", "pipefail", "-c", "--", "vllm serve $0", "/m"])[0] == "/m"


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve /a & vllm serve /b",
        "vllm serve '/a",
        "/start.sh /a",
        "echo vllm serve /a",
        f"vllm serve {'a ' * 20_000}",
        "A=x;" + "".join(f"V{n}=$A$A;A=$V{n};" for n in range(40)) + "/start.sh $A",
    ],
)
def test_what_cannot_be_read_says_nothing(text: str) -> None:
    assert server_command({"command": ["sh", "-c", text]}) is None


def test_what_only_the_container_knows_stays_unknown() -> None:
    assert shell("vllm serve /a --port $FROM -tp $IMAGE") == ("/a", None, None)
    assert shell("vllm serve /a --port $FROM") == ("/a", None, 1)
    assert shell("vllm serve $(ls /models) --port 80") == ("", 80, None)
    assert shell("vllm serve /a $EXTRA") == ("/a", None, None)
    assert shell("A=/a; test x || A=/b; vllm serve $A") == ("", None, None)
    assert read(["vllm", "serve", "--config", "/c.yaml"]) == ("", None, None)
    assert read(["vllm", "serve", "$(A)"], envFrom=[{"secretRef": {"name": "s"}}])[0] == ""
    assert read(["vllm", "serve", "$$(ROOT)"])[0] == "$(ROOT)"


@pytest.mark.parametrize(
    ("text", "number"), [("6k", 6000), ("32K", 32768), ("1.5k", 1500), ("auto", None), ("-1", None)]
)
def test_numbers_are_vllms(text: str, number: float | None) -> None:
    found = server_command({"command": ["vllm", "serve", "/a", f"--max-model-len={text}"]})
    assert found is not None
    assert found.number("max-model-len", 0) == number


@pytest.mark.parametrize(
    ("text", "passes"),
    [("vllm serve", False), ("exec vllm serve", True), ("trap : TERM; vllm serve", True)],
)
def test_who_gets_the_signal(text: str, passes: bool) -> None:
    found = server_command({"command": ["sh", "-c", f"{text} /a"]})
    assert found is not None
    assert found.passes_signals is passes
