"""A pod's life on the node: statuses, events, restarts and logs as a real cluster records them."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest
from node_world import COMMAND, IMAGE, World, client, conditions, in_world, lake, until

from qwenkit.errors import NotFound
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.engine.flags import parse
from qwenkit.sandbox.engine.start import EngineStart


def test_a_pod_becomes_ready_as_recorded(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        pod = made.pod("one")
        scheduled = {"type": "PodScheduled", "status": "True"}
        pod["status"]["conditions"] = [scheduled]
        made.store.update_status("Pod", pod)
        await until(lambda: made.ready("one"))
        status = made.status("one")
        assert conditions(status) == {
            "PodReadyToStartContainers": ("True", None),
            "Initialized": ("True", None),
            "Ready": ("True", None),
            "ContainersReady": ("True", None),
            "PodScheduled": ("True", None),
        }
        assert [one["name"] for one in status["containerStatuses"]] == [
            "queue-proxy",
            "vllm-container",
        ]
        assert all(one["ready"] and one["started"] for one in status["containerStatuses"])
        assert status["allocatedResources"] == {"cpu": "125m", "nvidia.com/gpu": "1"}
        assert made.container("one")["volumeMounts"] == [
            {
                "name": "llm-model",
                "mountPath": "/Qwen-7B-Chat-Int8",
                "readOnly": True,
                "recursiveReadOnly": "Disabled",
            }
        ]
        assert set(made.events("one")) >= {
            (
                "Pulled",
                f'Container image "{IMAGE}" already present on machine '
                "and can be accessed by the pod",
            ),
            ("Created", "Container created"),
            ("Started", "Container started"),
        }

    in_world(tmp_path, test)


def test_the_states_on_the_way_are_the_recorded_ones(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        changes = made.store.subscribe({"Pod"})
        made.pod("one")
        await until(lambda: made.ready("one"))
        seen = []
        async for change in changes:
            status = change.object["status"]
            ready = next(
                (one for one in status.get("conditions", []) if one["type"] == "Ready"), {}
            )
            seen.append((status["phase"], ready.get("message"), "podIP" in status))
            if ready.get("status") == "True":
                break
        changes.close()
        both = "containers with unready status: [vllm-container queue-proxy]"
        proxy = "containers with unready status: [queue-proxy]"
        assert list(dict.fromkeys(seen)) == [
            ("Pending", None, False),
            ("Pending", both, False),
            ("Running", proxy, True),
            ("Running", None, True),
        ]

    in_world(tmp_path, test)


def test_a_server_that_loads_is_unhealthy_until_it_listens(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.pod("one")
        failed = ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
        await until(lambda: failed in made.events("one"))
        assert made.node.address(made.store.get("Pod", "default", "one")["metadata"]["uid"]) is None
        assert not made.ready("one")
        await until(lambda: made.ready("one"))
        assert "# GPU blocks: " in made.node.logs("default", "one", "vllm-container")

    in_world(tmp_path, test, load_s=150.0)


@pytest.mark.parametrize("eager", [False, True])
def test_the_server_logs_the_parts_of_its_start(tmp_path: Path, eager: bool) -> None:
    async def test(made: World) -> None:
        made.pod("one", script=COMMAND + " --enforce-eager" * eager)
        await until(lambda: made.ready("one"))
        log = made.node.logs("default", "one", "vllm-container", timestamps=True)
        times, lines = zip(*(line.split(" ", 1) for line in log.splitlines()), strict=True)
        seconds = [datetime.fromisoformat(each).timestamp() for each in times]
        assert list(lines) == made.node.logs("default", "one", "vllm-container").splitlines()
        # The words of vLLM 0.4.1, in its order.
        words = [
            r"INFO \d\d-\d\d \d\d:\d\d:\d\d api_server.py:151\] vLLM API server version 0.4.1$",
            r"INFO .* llm_engine.py:98\] Initializing an LLM engine \(v0.4.1\)",
            r"INFO .* model_runner.py:173\] Loading model weights took 8.4\d{3} GB$",
            r"INFO .* gpu_executor.py:119\] # GPU blocks: \d+, # CPU blocks: 512$",
            r"INFO .* model_runner.py:1057\] Graph capturing finished in 4 secs.$",
            r"INFO:     Uvicorn running on http://0.0.0.0:8080",
        ]
        found = [[i for i, line in enumerate(lines) if re.match(each, line)] for each in words]
        assert [len(each) for each in found] == [1, 1, 1, 1, 0 if eager else 1, 1]
        order = [each[0] for each in found if each]
        assert order == sorted(order)
        assert "modelled, not measured" in log
        assert seconds == sorted(seconds)

    in_world(tmp_path, test, load_s=45.0)


def test_the_parts_of_a_start_take_its_load_time_together() -> None:
    for flag in ([], ["--enforce-eager"]):
        start = EngineStart(parse(flag), load_s=45.0, clock=Clock(), log=lambda _: None)
        assert sum(start.seconds.values()) == pytest.approx(45)
        assert ("graphs" in start.seconds) is not bool(flag)
        assert max(start.seconds, key=lambda part: start.seconds[part]) == "weights"


def test_a_crashing_container_backs_off(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        changes = made.store.subscribe({"Pod"})
        pod = made.pod("one", script="echo boom >&2; exit 1")
        full = f"vllm-container pod=one_default({pod['metadata']['uid']})"
        messages = []
        async for change in changes:
            statuses = change.object["status"].get("containerStatuses", [])
            messages += [one["state"].get("waiting", {}).get("message") for one in statuses]
            if any(one["restartCount"] >= 4 for one in statuses):
                break
        changes.close()
        assert list(dict.fromkeys(filter(None, messages))) == [
            f"back-off {seconds}s restarting failed container={full}" for seconds in (10, 20, 40)
        ]
        last = made.container("one")["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"], last["message"]) == (1, "Error", "boom\n")
        assert made.status("one")["phase"] == "Running"
        assert conditions(made.status("one"))["Ready"] == ("False", "ContainersNotReady")
        name = f"vllm-container in pod one_default({pod['metadata']['uid']})"
        assert ("BackOff", f"Back-off restarting failed container {name}") in made.events("one")
        assert made.node.logs("default", "one", "vllm-container") == "boom\n"
        assert made.node.logs("default", "one", "vllm-container", previous=True) == "boom\n"

    in_world(tmp_path, test)


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        (f"{COMMAND} --foo", 2, "api_server.py: error: unrecognized arguments: --foo"),
        (COMMAND.replace("/Qwen-7B-Chat-Int8", "/other"), 1, "HFValidationError"),
        (COMMAND.replace("/Qwen-7B-Chat-Int8", "qwen/x"), 1, "We couldn't connect to"),
        (COMMAND.replace("6144", "999999"), 1, "User-specified max_model_len (999999) is greater"),
        ("true && false || exit 7", 7, ""),
    ],
)
def test_a_wrong_command_ends_with_its_words(
    tmp_path: Path, script: str, code: int, words: str
) -> None:
    async def test(made: World) -> None:
        made.pod("one", script=script)
        await until(lambda: "terminated" in made.container("one").get("lastState", {}))
        assert made.container("one")["lastState"]["terminated"]["exitCode"] == code
        assert words in made.node.logs("default", "one", "vllm-container", previous=True)

    in_world(tmp_path, test)


def test_a_broken_file_is_named_and_its_repair_mends_the_pod(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        shard = made.folder / "model-00001-of-00002.safetensors"
        good = shard.read_bytes()
        shard.write_bytes(b"\xff" * 16)
        made.pod("one")
        await until(lambda: "terminated" in made.container("one").get("lastState", {}))
        log = made.node.logs("default", "one", "vllm-container", previous=True)
        assert "HeaderTooLarge: /Qwen-7B-Chat-Int8/model-00001-of-00002.safetensors" in log
        shard.write_bytes(good)
        await until(lambda: made.ready("one"))

    in_world(tmp_path, test)


def test_a_pod_that_never_listens_is_never_ready(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.pod("one", script="sleep infinity")
        await until(lambda: "Unhealthy" in made.reasons("one"))
        assert made.container("one")["ready"]
        assert not made.container("one", "queue-proxy")["ready"]
        assert not made.ready("one")

    in_world(tmp_path, test)


def test_a_server_on_another_port_is_never_ready(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        pod = made.pod("one", script=COMMAND.replace("8080", "8000"))
        await until(
            lambda: (
                made.container("one")
                and "Uvicorn running" in made.node.logs("default", "one", "vllm-container")
            )
        )
        await until(lambda: "Unhealthy" in made.reasons("one"))
        assert made.node.address(pod["metadata"]["uid"]) is None
        assert not await made.node.answers(pod["metadata"]["uid"])

    in_world(tmp_path, test)


def test_an_http_probe_asks_the_engine(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.pod("bad", probe={"httpGet": {"path": "/nothing", "port": 8080}})
        made.pod("good", probe={"httpGet": {"path": "/health", "port": 8080}})
        await until(lambda: made.ready("good"))
        await until(lambda: "Unhealthy" in made.reasons("bad"))
        assert not made.ready("bad")

    in_world(tmp_path, test)


def test_a_deleted_pod_drains_and_goes(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.pod("one")
        await until(lambda: made.ready("one"))
        changes = made.store.subscribe({"Pod"})
        made.store.delete("Pod", "default", "one")
        await until(lambda: made.find("one") is None)
        seen = []
        async for change in changes:
            obj = change.object
            seen.append(
                (
                    change.type,
                    obj["metadata"]["deletionGracePeriodSeconds"],
                    obj["status"]["phase"],
                    conditions(obj["status"])["Ready"],
                )
            )
            if change.type == "DELETED":
                break
        changes.close()
        assert list(dict.fromkeys(seen)) == [
            ("MODIFIED", 300, "Running", ("True", None)),
            ("MODIFIED", 300, "Running", ("False", "ContainersNotReady")),
            ("MODIFIED", 300, "Failed", ("False", "PodFailed")),
            ("MODIFIED", 0, "Failed", ("False", "PodFailed")),
            ("DELETED", 0, "Failed", ("False", "PodFailed")),
        ]
        ended = {
            one["name"]: one["state"]["terminated"]["exitCode"]
            for one in obj["status"]["containerStatuses"]
        }
        assert ended == {"vllm-container": 2, "queue-proxy": 0}
        assert set(made.events("one")) >= {
            ("Killing", "Stopping container vllm-container"),
            ("Killing", "Stopping container queue-proxy"),
        }

        def forgotten() -> bool:
            try:
                made.node.logs("default", "one", "vllm-container")
            except NotFound:
                return True
            return False

        await until(forgotten)

    in_world(tmp_path, test)


def test_a_draining_pod_stays_while_a_request_runs(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        pod = made.pod("one", period_s=1)
        await until(lambda: made.ready("one"))
        address = made.node.address(pod["metadata"]["uid"])
        async with client() as session:
            body = lake(stream=True, max_tokens=100, ignore_eos=True)
            async with session.post(f"{address}/v1/chat/completions", json=body) as response:
                await response.content.readany()
                made.store.delete("Pod", "default", "one")
                text = await response.text()
            assert text.endswith("data: [DONE]\n\n")
        assert made.find("one") is not None
        await until(lambda: made.find("one") is None)

    in_world(tmp_path, test, time_scale=20.0, load_s=1.0)


def test_a_pod_deleted_by_force_stops_at_once(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        pod = made.pod("one")
        await until(lambda: made.ready("one"))
        made.store.delete("Pod", "default", "one", grace_seconds=0)
        await until(lambda: made.node.address(pod["metadata"]["uid"]) is None)
        assert made.find("one") is None

    in_world(tmp_path, test)


def test_a_pod_deleted_while_it_starts_goes_without_killing(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.pod("one")
        await until(lambda: made.status("one").get("containerStatuses"))
        made.store.delete("Pod", "default", "one")
        await until(lambda: made.find("one") is None)
        assert "Killing" not in made.reasons("one")

    in_world(tmp_path, test, volume=False)
