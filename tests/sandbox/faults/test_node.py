"""Faults of the node: pods that are killed, GPUs that are lost, volumes that are slow."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from node_world import World, client, in_world, lake, until

from qwenkit.errors import NotFound
from qwenkit.sandbox.faults.catalogue import parse
from qwenkit.sandbox.faults.cluster import ClusterFaults
from qwenkit.sandbox.faults.injector import Budget


def strike(made: World, faults: ClusterFaults, where: str, what: str, **more: Any) -> Budget:
    wanted = parse({"where": where, "what": what} | more)
    times, for_s = wanted.bounds
    budget = Budget(times, time.monotonic() + for_s)
    faults.inject(wanted, budget)
    return budget


def test_a_killed_container_restarts_and_its_stream_breaks(tmp_path: Path) -> None:
    async def check(made: World) -> None:
        faults = ClusterFaults(made.store, made.node)
        made.pod("one")
        await until(lambda: made.ready("one"))
        address = made.node.address(made.find("one")["metadata"]["uid"])
        ask_long = lake(max_tokens=4000, stream=True, ignore_eos=True)
        async with (
            client() as session,
            session.post(f"{address}/v1/chat/completions", json=ask_long) as answer,
        ):
            await answer.content.readline()
            strike(made, faults, "pod", "oom", name="on")
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        await until(lambda: made.container("one").get("restartCount") == 1)
        ended = made.container("one")["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
        await until(lambda: made.ready("one"))

    in_world(tmp_path, check, time_scale=20.0, load_s=1.0)


def test_one_revision_alone_is_slow(tmp_path: Path) -> None:
    async def check(made: World) -> None:
        faults = ClusterFaults(made.store, made.node)
        for revision in ("qwen-00001", "qwen-00002"):
            made.revision(revision)
            made.route(f"{revision}.example.com", (revision, 100), name=revision)
            made.pod(f"{revision}-pod", revision=revision)
            await until(lambda pod=f"{revision}-pod": made.ready(pod))
        budget = strike(made, faults, "pod", "slow", name="qwen-00002", seconds=0.5)

        async def ask(session: aiohttp.ClientSession, revision: str) -> int:
            url = f"{made.gateway_url}/v1/chat/completions"
            headers = {"Host": f"{revision}.example.com"}
            async with session.post(url, json=lake(max_tokens=1), headers=headers) as answer:
                return answer.status

        async with client() as session:
            slow = asyncio.create_task(ask(session, "qwen-00002"))
            await until(lambda: budget.hits == 1)
            assert await ask(session, "qwen-00001") == 200
            assert not slow.done()
            assert await slow == 200
        assert budget.hits == 1

    in_world(tmp_path, check)


def test_a_deleted_pod_is_gone_at_once(tmp_path: Path) -> None:
    async def check(made: World) -> None:
        faults = ClusterFaults(made.store, made.node)
        made.pod("one")
        await until(lambda: made.ready("one"))
        strike(made, faults, "pod", "delete")
        assert made.find("one") is None
        with pytest.raises(NotFound):
            strike(made, faults, "pod", "delete")

    in_world(tmp_path, check)


def test_a_pod_on_a_lost_gpu_crashes_until_it_is_back(tmp_path: Path) -> None:
    async def check(made: World) -> None:
        made.pod("old")
        await until(lambda: made.ready("old"))
        made.pod("young")
        await until(lambda: made.ready("young"))
        made.node.lose_gpus(1)
        await asyncio.sleep(0)
        assert made.ready("young"), "the idle one goes first"
        made.node.lose_gpus(2)
        await until(lambda: made.container("young").get("restartCount", 0) >= 2)
        assert "No CUDA GPUs are available" in made.node.logs(
            "default", "young", "vllm-container"
        ) + made.node.logs("default", "young", "vllm-container", previous=True)
        assert made.ready("old")
        made.node.lose_gpus(0)
        await until(lambda: made.ready("young"))

    in_world(tmp_path, check, load_s=1.0)


def test_a_slow_mount_says_so_and_then_succeeds(tmp_path: Path) -> None:
    async def check(made: World) -> None:
        faults = ClusterFaults(made.store, made.node)
        budget = strike(made, faults, "mount", "slow", seconds=30)
        made.pod("one")
        await until(lambda: made.ready("one"))
        made.pod("two")
        await until(lambda: made.ready("two"))
        said = [message for reason, message in made.events("one") if reason == "FailedMount"]
        assert set(said) == {
            'MountVolume.SetUp failed for volume "llm-model" : rpc error: '
            "code = DeadlineExceeded desc = context deadline exceeded"
        }
        assert "FailedMount" not in made.reasons("two")
        assert (budget.hits, budget.spent) == (1, True)

    in_world(tmp_path, check, mount_timeout_s=20, load_s=1.0)
