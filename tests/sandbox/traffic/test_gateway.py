"""From a Host header to a pod's tokens: routing, holding, balancing, limits, draining."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import paced
import pytest
from node_world import HOST, World, client, lake, meta, until, world

Test = Callable[[World, aiohttp.ClientSession], Awaitable[None]]


async def ask(
    made: World, session: aiohttp.ClientSession, *, host: str = HOST, **more: Any
) -> tuple[int, str]:
    url = f"{made.gateway_url}/v1/chat/completions"
    async with session.post(url, json=lake(**more), headers={"Host": host}) as response:
        return response.status, await response.text()


def counting(tokens: int) -> dict[str, Any]:
    return {"max_tokens": tokens, "ignore_eos": True, "stream": True}


def in_world(**options: Any) -> Callable[[Test], Callable[[Path], None]]:
    """Run a test against a node and its gateway."""

    def decorated(test: Test) -> Callable[[Path], None]:
        async def run(tmp_path: Path) -> None:
            async with world(tmp_path, **options) as made, client() as session:
                await test(made, session)

        return lambda tmp_path: paced.run(run(tmp_path))

    return decorated


async def serve(made: World, *pods: str, **spec: Any) -> None:
    """Route the host to a revision with these pods; return when they are ready."""
    made.revision("qwen-00001", **spec)
    made.route(HOST, ("qwen-00001", 100))
    for name in pods:
        made.pod(name)
    await until(lambda: all(map(made.ready, pods)))


@in_world()
async def test_the_documentations_request_is_answered_as_documented(
    made: World, session: aiohttp.ClientSession
) -> None:
    await serve(made, "one")
    status, text = await ask(made, session)
    answer = json.loads(text)
    assert (status, answer["object"], answer["model"]) == (200, "chat.completion", "qwen")
    content = "西湖位于中国浙江省杭州市,是中国著名的风景名"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": content}
    assert answer["usage"]["completion_tokens"] == 10


@in_world()
async def test_unknown_hosts_get_an_empty_404(made: World, session: aiohttp.ClientSession) -> None:
    await serve(made)
    for host in ("other.example.com", "qwen.default.svc.cluster.local", "127.0.0.1"):
        assert await ask(made, session, host=host) == (404, "")
    assert made.traffic.entered.total() == 0
    headers = {"Host": "internalkourier"}
    async with session.get(f"{made.gateway_url}/ready", headers=headers) as response:
        assert response.status == 200


@in_world()
async def test_a_port_and_capitals_in_the_host_do_not_matter(
    made: World, session: aiohttp.ClientSession
) -> None:
    await serve(made, "one")
    assert (await ask(made, session, host=f"{HOST.upper()}:80"))[0] == 200


@in_world()
async def test_a_request_waits_for_its_cold_start_and_counts_at_once(
    made: World, session: aiohttp.ClientSession
) -> None:
    await serve(made)
    held = asyncio.create_task(ask(made, session))
    await until(lambda: made.traffic.now("qwen-00001") == 1)
    # The kubelet's probe would take a minute: the activator asks the pod itself.
    made.pod("one", period_s=60)
    status, text = await held
    assert (status, json.loads(text)["usage"]["total_tokens"]) == (200, 20)
    await until(lambda: made.traffic.now("qwen-00001") == 0)


@in_world()
async def test_requests_split_by_percent(made: World, session: aiohttp.ClientSession) -> None:
    for revision in ("qwen-00001", "qwen-00002"):
        made.revision(revision)
        made.pod(revision, revision=revision)
    made.route(HOST, ("qwen-00001", 80), ("qwen-00002", 20))
    made.route(f"next-{HOST}", ("qwen-00002", 100), name="tag")
    await until(lambda: made.ready("qwen-00001") and made.ready("qwen-00002"))
    await asyncio.gather(*(ask(made, session, max_tokens=1) for _ in range(300)))
    first, second = (made.traffic.entered[f"qwen-0000{n}"] for n in (1, 2))
    assert first + second == 300
    assert 25 <= second <= 110
    await ask(made, session, host=f"next-{HOST}", max_tokens=1)
    assert made.traffic.entered["qwen-00002"] == second + 1


@in_world(time_scale=2.0, load_s=0.0, sandbox_s=0.0)
async def test_a_stream_arrives_token_by_token(made: World, session: aiohttp.ClientSession) -> None:
    await serve(made, "one")
    url = f"{made.gateway_url}/v1/chat/completions"
    async with session.post(url, json=lake(stream=True), headers={"Host": HOST}) as response:
        reads = [chunk async for chunk in response.content.iter_any()]
        assert response.headers["x-qwenkit-clock"] == "2"
    assert len(reads) >= 6
    assert b"".join(reads).endswith(b"data: [DONE]\n\n")


@in_world(time_scale=2.0, load_s=0.0)
async def test_a_client_that_leaves_is_no_longer_counted(
    made: World, session: aiohttp.ClientSession
) -> None:
    await serve(made)
    pod = made.pod("one")
    waiting = asyncio.create_task(ask(made, session))
    await until(lambda: made.traffic.now("qwen-00001") == 1)
    waiting.cancel()
    await until(lambda: made.traffic.now("qwen-00001") == 0)
    await until(lambda: made.ready("one"))
    url = f"{made.gateway_url}/v1/chat/completions"
    response = await session.post(url, json=lake(**counting(100)), headers={"Host": HOST})
    await response.content.readany()
    response.close()
    await until(lambda: made.traffic.now("qwen-00001") == 0)
    address = made.node.address(pod["metadata"]["uid"])

    async def running() -> str:
        async with session.get(f"{address}/metrics") as answer:
            return await answer.text()

    await until_running_is_none(running)


def test_a_request_that_takes_too_long_is_answered_504(tmp_path: Path) -> None:
    async def one(made: World, session: aiohttp.ClientSession, mode: str, words: str) -> None:
        name, host = mode.lower(), f"{mode}.example.com"
        made.revision(name, timeoutSeconds=1)
        made.store.create("ServerlessService", meta(name, spec={"mode": mode}))
        made.route(host.lower(), (name, 100), name=name)
        # Nothing runs yet, so the activator holds it whatever the mode.
        assert await ask(made, session, host=host) == (504, "activator request timeout")
        made.pod(name, revision=name)
        await until(lambda: made.ready(name))
        assert await ask(made, session, host=host, max_tokens=None) == (504, words)
        url = f"{made.gateway_url}/v1/chat/completions"
        async with session.post(
            url, json=lake(**counting(100)), headers={"Host": host}
        ) as response:
            assert response.status == 200
            text, whole = await read_all(response)
        assert not whole
        assert text.startswith("data: ")
        assert text.endswith(words)

    async def test(made: World, session: aiohttp.ClientSession) -> None:
        await asyncio.gather(
            one(made, session, "Proxy", "activator request timeout"),
            one(made, session, "Serve", "request timeout"),
        )

    in_world(time_scale=0.1, load_s=0.0, mount_s=0.0, sandbox_s=0.0, accept_s=0.0)(test)(tmp_path)


@in_world()
async def test_response_start_and_idle_timeouts_act_before_the_first_byte(
    made: World, session: aiohttp.ClientSession
) -> None:
    made.revision("a", timeoutSeconds=60, responseStartTimeoutSeconds=1)
    made.revision("b", timeoutSeconds=60, idleTimeoutSeconds=1)
    made.route("a.example.com", ("a", 100), name="a")
    made.route("b.example.com", ("b", 100), name="b")
    for host in ("a.example.com", "b.example.com"):
        assert await ask(made, session, host=host) == (504, "activator request timeout")


@in_world(time_scale=10.0, load_s=0.0)
async def test_past_the_activator_ten_times_the_limit_waits(
    made: World, session: aiohttp.ClientSession
) -> None:
    made.revision("qwen-00001", containerConcurrency=1)
    made.store.create("ServerlessService", meta("qwen-00001", spec={"mode": "Serve"}))
    made.route(HOST, ("qwen-00001", 100))
    made.pod("one")
    await until(lambda: made.ready("one"))
    answers = await asyncio.gather(*(ask(made, session) for _ in range(15)))
    assert sorted(status for status, _ in answers) == [200] * 11 + [503] * 4
    assert (503, "pending request queue full\n") in answers


@pytest.mark.parametrize("limit", [1, 5])
def test_the_activator_keeps_the_limit(tmp_path: Path, limit: int) -> None:
    async def test(made: World, session: aiohttp.ClientSession) -> None:
        made.revision("qwen-00001", containerConcurrency=limit)
        made.route(HOST, ("qwen-00001", 100))
        pods = [made.pod("one"), made.pod("two")]
        await until(lambda: made.ready("one") and made.ready("two"))
        done = asyncio.gather(*(ask(made, session) for _ in range(30)))
        most = Counter[str]()
        while not done.done():
            for pod in pods:
                uid = pod["metadata"]["uid"]
                most[uid] = max(most[uid], in_flight(made, uid))
            await asyncio.sleep(0.002)
        assert {status for status, _ in await done} == {200}
        assert set(most.values()) == {limit}

    in_world(time_scale=20.0, load_s=0.0)(test)(tmp_path)


async def read_all(response: aiohttp.ClientResponse) -> tuple[str, bool]:
    text = ""
    try:
        async for chunk in response.content.iter_any():
            text += chunk.decode()
    except aiohttp.ClientPayloadError:
        return text, False
    return text, True


async def until_running_is_none(metrics: Callable[[], Awaitable[str]]) -> None:
    for _ in range(1000):
        if 'vllm:num_requests_running{model_name="qwen"} 0.0' in await metrics():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the engine still runs the request")


def in_flight(made: World, uid: str) -> int:
    containers = made.node._workers[uid].containers
    return sum(one.server.engine.in_flight for one in containers if one.server)


@in_world(time_scale=50.0, load_s=0.0)
async def test_scaling_in_drops_no_stream(made: World, session: aiohttp.ClientSession) -> None:
    await serve(made, "one", "two")
    streams = [asyncio.create_task(ask(made, session, **counting(30))) for _ in range(40)]
    await until(lambda: made.traffic.now("qwen-00001") == 40)
    made.store.delete("Pod", "default", "one")
    streams += [asyncio.create_task(ask(made, session, **counting(30))) for _ in range(20)]
    answers = await asyncio.gather(*streams)
    assert {status for status, _ in answers} == {200}
    assert all(text.endswith("data: [DONE]\n\n") for _, text in answers)
    await until(lambda: made.find("one") is None)
    assert (await ask(made, session))[0] == 200


@in_world()
async def test_a_pod_that_vanishes_is_tried_no_more(
    made: World, session: aiohttp.ClientSession
) -> None:
    await serve(made, "one")
    assert (await ask(made, session))[0] == 200
    made.store.delete("Pod", "default", "one", grace_seconds=0)
    made.pod("two")
    answers = await asyncio.gather(*(ask(made, session) for _ in range(20)))
    assert {status for status, _ in answers} == {200}


@in_world(time_scale=20.0, load_s=0.0)
async def test_two_hundred_streams_through_the_gateway(
    made: World, session: aiohttp.ClientSession
) -> None:
    await serve(made, "one", "two", "three")
    answers = await asyncio.gather(*(ask(made, session, stream=True) for _ in range(200)))
    assert {status for status, _ in answers} == {200}
    assert {text.count("data: ") for _, text in answers} == {12}
    assert made.traffic.now("qwen-00001") == 0


@in_world()
async def test_a_deleted_route_is_unknown_again(
    made: World, session: aiohttp.ClientSession
) -> None:
    await serve(made, "one")
    assert (await ask(made, session))[0] == 200
    made.store.delete("Ingress", "default", "qwen")
    assert (await ask(made, session))[0] == 404
