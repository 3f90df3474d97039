"""SIGTERM and the grace period: a container whose process 1 ignores it stays until it is killed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from node_world import COMMAND, World, in_world, until

PASSED_ON = f"trap 'kill $!; wait $!; exit $?' TERM; {COMMAND} & wait $!"
LOADING = {"time_scale": 100.0, "load_s": 10_000.0, "drain_s": 10.0}


async def deleted_while_loading(made: World, script: str) -> tuple[float, dict[str, int]]:
    """Delete a pod while its server loads; return the seconds, and the exit codes."""
    made.pod("one", script=script)
    log = "Initializing an LLM engine"
    await until(lambda: made.find("one") and made.container("one").get("state", {}).get("running"))
    await until(lambda: log in made.node.logs("default", "one", "vllm-container"))
    changes = made.store.subscribe({"Pod"})
    began = time.monotonic()
    made.store.delete("Pod", "default", "one")
    await until(lambda: made.find("one") is None)
    took = time.monotonic() - began
    async for change in changes:
        if change.type == "DELETED":
            break
    changes.close()
    statuses = change.object["status"]["containerStatuses"]
    codes = {one["name"]: one["state"]["terminated"]["exitCode"] for one in statuses}
    return took, codes


@pytest.mark.parametrize(
    ("script", "stays", "code"),
    [(COMMAND, True, 137), (f"exec {COMMAND}", True, 137), (PASSED_ON, False, 143)],
)
def test_a_server_that_loads_stays_for_the_grace_period_unless_the_shell_passes_sigterm_on(
    tmp_path: Path, script: str, stays: bool, code: int
) -> None:
    async def test(made: World) -> None:
        took, codes = await deleted_while_loading(made, script)
        # 300 s of grace, a hundred times faster.
        assert (took >= 3.0) == stays
        assert codes == {"vllm-container": code, "queue-proxy": 0}

    in_world(tmp_path, test, **LOADING)


def test_a_server_that_listens_ends_after_its_drain(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.pod("one", script=PASSED_ON)
        await until(lambda: made.ready("one"))
        began = time.monotonic()
        made.store.delete("Pod", "default", "one")
        await until(lambda: made.find("one") is None)
        assert time.monotonic() - began < 3.0

    in_world(tmp_path, test, load_s=1.0, drain_s=10.0)


def test_a_second_deletion_shortens_the_grace_period(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.pod("one", script="sleep infinity")
        await until(lambda: "running" in made.container("one").get("state", {}))
        made.store.delete("Pod", "default", "one")
        await asyncio.sleep(1.0)
        made.store.delete("Pod", "default", "one", grace_seconds=600)  # longer: no effect
        assert made.find("one")["metadata"]["deletionGracePeriodSeconds"] == 300  # type: ignore[index]
        began = time.monotonic()
        made.store.delete("Pod", "default", "one", grace_seconds=1)
        assert made.find("one") is not None, "the kubelet removes it, once the container has ended"
        await until(lambda: made.find("one") is None)
        assert time.monotonic() - began < 2.5

    in_world(tmp_path, test, time_scale=2.0, drain_s=0.2, load_s=1.0)


def test_a_container_that_ends_while_it_is_deleted_does_not_restart(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.pod("one", script="sleep 60; exit 4")
        await until(lambda: "running" in made.container("one").get("state", {}))
        made.store.delete("Pod", "default", "one")
        seen = {}
        while (pod := made.find("one")) is not None:
            statuses = pod["status"]["containerStatuses"]
            seen |= {one["restartCount"]: one["state"] for one in statuses}
            await asyncio.sleep(0.01)
        assert set(seen) == {0}
        assert seen[0]["terminated"]["exitCode"] in (0, 4)

    in_world(tmp_path, test, time_scale=100.0, drain_s=5.0)
