"""What a container does is read from its command line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_world import COMMAND

from qwenkit.sandbox.kubelet.images import image_id, pull_error
from qwenkit.sandbox.kubelet.program import Command, hears_sigterm, read
from qwenkit.sandbox.kubelet.status import ContainerState, PodFacts, pod_status


def script(text: str, **env: str) -> list[Command]:
    variables = [{"name": name, "value": value} for name, value in env.items()]
    return read({"image": "x", "command": ["sh", "-c", text], "env": variables})


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("echo boom >&2; exit 1", [Command("echo", ("boom",)), Command("exit", ("1",))]),
        ("sleep 1000", [Command("sleep", ("1000",))]),
        ("echo 'a;b' || false", [Command("echo", ("a;b",)), Command("return", ("1",), "||")]),
        ("true && exit 3", [Command("return", ("0",)), Command("exit", ("3",), "&&")]),
        (
            "set -e\necho a # b\necho c",
            [
                Command("return", ("0",)),
                Command("echo", ("a",)),
                Command("echo", ("c",)),
            ],
        ),
        (
            "python3 app.py --port 8080",
            [Command("forever", ("python3", "app.py", "--port", "8080"))],
        ),
        ("sleep 1 2", [Command("forever", ("sleep", "1", "2"))]),
        ("a | b", [Command("forever", ("a", "|", "b"))]),
        ("vllm serve /m --port 1", [Command("serve", ("--model", "/m", "--port", "1"))]),
        ("vllm serve --model /m", [Command("serve", ("--model", "/m"))]),
        ("vllm bench", [Command("forever", ("vllm", "bench"))]),
        ("", []),
    ],
)
def test_a_script_is_read(text: str, steps: list[Command]) -> None:
    assert script(text) == steps


@pytest.mark.parametrize(
    "text",
    [
        COMMAND,
        f"exec {COMMAND}",
        f"CUDA_VISIBLE_DEVICES=0 {COMMAND}",
        COMMAND.replace("python3", "/usr/bin/python3.10"),
        COMMAND.replace(" --port", " \\\n  --port"),
        f"{COMMAND} # the model's folder",
        COMMAND.replace("8080", "$PORT"),
        COMMAND.replace("8080", "${PORT}"),
        COMMAND.replace("8080", "$(PORT)"),
        COMMAND.replace("8080", "$$PORT"),  # Kubernetes' escape, then the shell's variable
        COMMAND.replace("8080", "${NONE:-8080}"),
    ],
)
def test_the_documentations_command_is_a_server(text: str) -> None:
    assert script(text, PORT="8080") == [Command("serve", tuple(COMMAND.split()[3:]))]


PASSED_ON = "trap 'kill $!; wait $!; exit $?' TERM; "


@pytest.mark.parametrize(
    ("text", "listens", "hears"),
    [
        (COMMAND, False, False),
        (COMMAND, True, True),
        (f"exec {COMMAND}", True, True),
        (f"echo a; {COMMAND}", True, True),  # a shell runs its last command in its own place
        (f"{COMMAND}; echo a", True, False),
        (f"{PASSED_ON}{COMMAND} & wait $!", False, True),
        (f"{PASSED_ON}{COMMAND} & wait $!", True, True),
        (f"trap 'kill $pid' TERM\n{COMMAND} &\npid=$!\nwait $pid", False, True),
        (f"{COMMAND} & wait $!", True, False),  # the shell has no handler
        (f"trap 'exit 0' TERM; {COMMAND}; true", True, False),  # it runs its trap afterwards
        ("trap '' TERM; sleep 5 & wait", False, False),
        ("sleep infinity", False, False),
        ("python3 app.py", True, False),
        ("nginx", False, True),
    ],
)
def test_who_hears_sigterm(text: str, listens: bool, hears: bool) -> None:
    steps = script(text)
    traps = [step.args[0] for step in steps if step.verb == "trap"]
    (program,) = [one for one in steps if one.verb in ("serve", "sleep", "forever")]
    assert hears_sigterm(program, "".join(traps), listens=listens) == hears


@pytest.mark.parametrize(
    ("container", "steps"),
    [
        ({"command": ["echo", "a", "b"]}, [Command("echo", ("a", "b"))]),
        ({"command": ["vllm"], "args": ["serve", "/m"]}, [Command("serve", ("--model", "/m"))]),
        (
            {"image": "docker.io/vllm/vllm-openai:v1", "args": ["--port", "$(P)"]},
            [Command("serve", ("--port", "8080"))],
        ),
        (
            {"image": "q9/vllm-cpu-release-repo:v0.26.0", "args": ["/m", "--port=$(P)", "$(Q)"]},
            [Command("serve", ("/m", "--port=8080", "$(Q)"))],
        ),
        (
            {"image": "kube-ai/vllm:0.4.1", "command": ["vllm", "serve", "/m"]},
            [Command("echo", ("sh: 1: vllm: not found",)), Command("exit", ("127",))],
        ),
        ({"args": ["anything"]}, [Command("forever", ("anything",))]),
    ],
)
def test_a_command_without_a_shell_is_read(container: dict[str, Any], steps: list[Command]) -> None:
    assert read({"image": "x", "env": [{"name": "P", "value": "8080"}]} | container) == steps


def test_an_open_quote_is_the_shells_error() -> None:
    echo, end = script("echo 'x")
    assert "Unterminated quoted string" in echo.args[0]
    assert end == Command("exit", ("2",))


@given(st.text())
def test_any_script_can_be_read(text: str) -> None:
    verbs = {"serve", "echo", "sleep", "exit", "return", "trap", "wait", "forever"}
    assert {step.verb for step in script(text)} <= verbs


def test_a_pull_fails_in_the_runtimes_words() -> None:
    assert pull_error("registry.invalid/kube-ai/vllm:9.9") == (
        'failed to pull and unpack image "registry.invalid/kube-ai/vllm:9.9": failed to resolve '
        'reference "registry.invalid/kube-ai/vllm:9.9": failed to do request: Head '
        '"https://registry.invalid/v2/kube-ai/vllm/manifests/9.9": dial tcp: lookup '
        "registry.invalid on 10.96.0.10:53: server misbehaving"
    )
    assert pull_error("busybox") is None
    assert "couldn't parse image name" in (pull_error("docker.io/UPPER") or "")


def test_image_ids_are_stable_digests() -> None:
    digest = f"sha256:{'0' * 64}"
    assert image_id(f"ghcr.io/a/b@{digest}") == digest
    assert image_id("busybox") == image_id("busybox") != image_id("alpine")


def facts(**more: Any) -> PodFacts:
    limited = {"limits": {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "1"}}
    states = [
        ContainerState({"name": "b", "image": "i", "resources": limited}),
        ContainerState({"name": "a", "image": "i", "resources": {"requests": {"cpu": "0.5"}}}),
    ]
    values: dict[str, Any] = {
        "generation": 1,
        "host_ip": "10.0.0.1",
        "pod_ip": None,
        "start_time": "t0",
        "sandbox_ready": False,
        "containers": states,
        "stopped": False,
    }
    return PodFacts(**values | more)


def test_transition_times_move_only_with_the_status() -> None:
    before = pod_status({"phase": "Pending"}, facts(), "t1")
    after = pod_status(before, facts(sandbox_ready=True), "t2")
    times = {one["type"]: one["lastTransitionTime"] for one in after["conditions"]}
    assert times == {
        "PodReadyToStartContainers": "t2",
        "Initialized": "t1",
        "Ready": "t1",
        "ContainersReady": "t1",
    }
    assert "podIP" not in after


def test_conditions_of_others_are_kept() -> None:
    theirs = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "t0"}
    status = pod_status({"phase": "Pending", "conditions": [theirs]}, facts(generation=2), "t1")
    assert status["conditions"][-1] == theirs | {"observedGeneration": 2}


def test_a_running_pod_reports_its_control_group() -> None:
    limits = {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "1"}
    assert pod_status({"phase": "Pending"}, facts(), "t")["resources"]["limits"] == limits
    running = pod_status({"phase": "Running"}, facts(), "t")["resources"]
    # One of the containers has no memory limit, so the pod has none.
    assert running["limits"] == {"cpu": "2", "memory": "9007199254740988Ki"}
    assert running["requests"] == {"cpu": "0.5"}
