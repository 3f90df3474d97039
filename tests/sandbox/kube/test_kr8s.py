"""The kr8s client against the sandbox: what a script does with it, over the kubeconfig alone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import kr8s
import pytest
from kr8s.asyncio.objects import ConfigMap, Deployment, Pod

from qwenkit.sandbox import process, state_files

# The client knows versions up to a time, and says so of newer ones.
pytestmark = pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported:UserWarning")

SAY = {"name": "main", "image": "busybox", "command": ["sh", "-c", "echo hello && sleep infinity"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("sandbox") / "root"
    process.up(path, state_files.SandboxOptions(time_scale=100))
    yield path
    process.down(path)


def play(root: Path, scene: Callable[[Any], Awaitable[None]]) -> None:
    async def whole() -> None:
        api = await kr8s.asyncio.api(kubeconfig=str(root / "kubeconfig"), context="sandbox")
        try:
            async with asyncio.timeout(60):
                await scene(api)
        finally:
            await close(api)

    asyncio.run(whole())


async def close(api: Any) -> None:
    """Close what the client leaves open: the watches of its waits, and its connections."""
    gc.collect()
    await asyncio.get_running_loop().shutdown_asyncgens()
    if rest := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(rest)
    await api._session.aclose()  # it has no other way


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, **more}


async def names(api: Any, kind: str, **how: Any) -> list[str]:
    return [item.name async for item in api.get(kind, namespace="default", **how)]


def test_create_get_patch_list_watch_delete(root: Path) -> None:
    async def scene(api: Any) -> None:
        seen, begun = [], asyncio.Event()

        async def follow() -> None:
            async for kind, item in api.watch("configmaps", namespace="default"):
                if item.name == "m":
                    seen.append((kind, dict(item.data)))
                    begun.set()
                if kind == "DELETED":
                    return

        made = await ConfigMap(named("m", data={"a": "1"}), api=api)
        await made.create()
        watch = asyncio.create_task(follow())
        await begun.wait()
        await made.patch({"data": {"b": "2"}})
        await made.label({"team": "red"})
        found = await ConfigMap.get("m", namespace="default", api=api)
        assert found.data == {"a": "1", "b": "2"}
        assert await names(api, "configmaps", label_selector={"team": "red"}) == ["m"]
        await found.patch([{"op": "remove", "path": "/data/a"}], type="json")
        await found.delete()
        assert not await found.exists()
        await watch
        assert seen == [
            ("ADDED", {"a": "1"}),
            ("MODIFIED", {"a": "1", "b": "2"}),
            ("MODIFIED", {"a": "1", "b": "2"}),
            ("MODIFIED", {"b": "2"}),
            ("DELETED", {"b": "2"}),
        ]

    play(root, scene)


def test_wait_for_a_pod_and_read_its_log(root: Path) -> None:
    async def scene(api: Any) -> None:
        pod = await Pod(named("p", spec={"containers": [SAY]}), api=api)
        await pod.create()
        await pod.wait("condition=Ready", timeout=50)
        assert [line async for line in pod.logs()] == ["hello"]
        await pod.delete(grace_period=0)
        await pod.wait("delete", timeout=50)
        with pytest.raises(kr8s.NotFoundError):
            await Pod.get("p", namespace="default", api=api, timeout=1)

    play(root, scene)


def test_a_deployment_and_its_pods(root: Path) -> None:
    async def scene(api: Any) -> None:
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [SAY]}}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        web = await Deployment(named("web", spec=spec), api=api)
        await web.create()
        await web.wait("condition=Available", timeout=50)
        assert [await pod.ready() for pod in await web.pods()] == [True, True]
        await web.scale(1)
        await web.delete(propagation_policy="Foreground")
        await web.wait("delete", timeout=50)

    play(root, scene)


def test_custom_resources_are_found_by_discovery(root: Path) -> None:
    async def scene(api: Any) -> None:
        assert await names(api, "services.serving.knative.dev") == []
        assert await names(api, "ksvc") == []

    play(root, scene)
