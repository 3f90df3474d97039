"""The load generators that load.py compares: each runs in the environment in which it is installed.

    PYTHON benchmarks/load_peers.py NAME JSON

The job is JSON: ``url``, ``tokens`` of each answer, and ``streams`` and ``requests`` (a closed
loop; ``request_s`` is how long one takes) or ``arrivals`` (an open loop: when each is due, in
seconds). Each prints JSON: ``tokens``, as its own results say, and ``sent``: of each request that
it knows its ``id``, ``ttft_s``, ``first_s`` (the first token on ``time.monotonic()``) and
``delay_s`` (from when it was due to its sending).
"""

from __future__ import annotations

import asyncio
import importlib.machinery
import json
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "hello"
Job = dict[str, Any]
PEERS: dict[str, Callable[[Job], dict[str, Any]]] = {}


def peer(name: str) -> Callable[[Callable[[Job], dict[str, Any]]], None]:
    """Register what a process runs under ``name``."""

    def register(function: Callable[[Job], dict[str, Any]]) -> None:
        PEERS[name] = function

    return register


@peer("qwenkit")
def run_qwenkit(job: Job) -> dict[str, Any]:
    """Load with this generator."""
    sys.path.insert(0, str(ROOT))
    from qwenkit.capacity.simulation.traffic import Arrival, ClosedLoop, Lengths, OpenLoop, Traffic
    from qwenkit.inference.client import Server
    from qwenkit.inference.load.running import start_load

    tokens, seconds = job["tokens"], None
    traffic: Traffic
    if "arrivals" in job:
        traffic = OpenLoop(tuple(Arrival(at, 1, tokens) for at in job["arrivals"]))
    else:
        # As many requests as asked for: each stream's last one begins before this moment.
        seconds = (job["requests"] / job["streams"] - 0.5) * job["request_s"]
        traffic = ClosedLoop(((0.0, job["streams"]),), Lengths(1, tokens))
    server = Server(job["url"], "", model="qwen")
    running = start_load(server, traffic, prompt=PROMPT, max_tokens=tokens, seconds=seconds)
    result = running.result()
    sent = [
        {
            "id": one.number,
            "ttft_s": (one.first_s or 0.0) - one.sent_s,
            "first_s": (one.first_s or 0.0) + result.began,
            "delay_s": one.sent_s - one.scheduled_s,
        }
        for one in result.requests
    ]
    return {"tokens": sum(one.tokens for one in result.requests), "sent": sent}


@peer("vllm")
def run_vllm(job: Job) -> dict[str, Any]:
    """Load with the client of ``vllm bench serve``; its parent packages would import torch."""
    spec = importlib.machinery.PathFinder.find_spec("vllm")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("vllm is not there")
    folder = Path(next(iter(spec.submodule_search_locations)))
    for name in ("vllm", "vllm.benchmarks", "vllm.benchmarks.lib"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
    import aiohttp
    from vllm.benchmarks.lib import endpoint_request_func as vllm

    async def run() -> dict[str, Any]:
        done: list[tuple[Any, float]] = []

        async def one(due: float) -> None:
            url = f"{job['url']}/v1/chat/completions"
            name, began = len(sent), time.monotonic()
            sent.append(name)
            asked = vllm.RequestFuncInput(
                PROMPT, url, 1, job["tokens"], "qwen", request_id=f"vllm-{name}"
            )
            output = await vllm.async_request_openai_chat_completions(asked, session)
            if not output.success:
                raise SystemExit(output.error)
            figures = {"ttft_s": output.ttft, "first_s": began + output.ttft}
            done.append(({"id": name, "delay_s": began - due, **figures}, output.output_tokens))

        async def client() -> None:
            while len(sent) < job["requests"]:
                await one(time.monotonic())

        sent: list[int] = []
        # As vLLM's own benchmark makes it.
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, ttl_dns_cache=300)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(0 if "arrivals" in job else job["streams"]):
                group.create_task(client())
            begin = time.monotonic()
            for at in job.get("arrivals", ()):
                await asyncio.sleep(begin + at - time.monotonic())
                group.create_task(one(begin + at))
        return {"tokens": sum(tokens for _, tokens in done), "sent": [one for one, _ in done]}

    return asyncio.run(run())


@peer("locust")
def run_locust(job: Job) -> dict[str, Any]:
    """Load with locust; the streaming is one's own, as everywhere with locust.

    With its HttpUser: its faster client hands out 1024 bytes at a time, so it sees no token.
    """
    import gevent
    from locust import HttpUser, constant, task
    from locust.env import Environment
    from locust.exception import StopUser

    state = {"sent": 0, "tokens": 0}
    body = {"model": "qwen", "stream": True, "max_tokens": job["tokens"]}
    body |= {"messages": [{"role": "user", "content": PROMPT}]}
    body |= {"stream_options": {"include_usage": True}}

    class User(HttpUser):
        host = job["url"]
        wait_time = constant(0)

        @task
        def stream(self) -> None:
            if state["sent"] >= job["requests"]:
                raise StopUser
            state["sent"] += 1
            began, first = time.perf_counter(), 0.0
            response = self.client.post("/v1/chat/completions", json=body, stream=True)
            for line in response.iter_lines(decode_unicode=True):
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line[6:])
                if event["choices"] and not first:
                    first = time.perf_counter()
                    what = {"request_type": "TTFT", "name": "chat", "response_length": 0}
                    what |= {"response_time": 1000 * (first - began), "exception": None}
                    self.environment.events.request.fire(context={}, **what)
                if event.get("usage"):
                    state["tokens"] += event["usage"]["completion_tokens"]

    environment = Environment(user_classes=[User])
    runner = environment.create_local_runner()
    runner.start(job["streams"], spawn_rate=job["streams"])
    while state["sent"] < job["requests"] or runner.user_count:
        gevent.sleep(0.05)
    runner.quit()
    return {"tokens": state["tokens"], "sent": []}


@peer("guidellm")
def run_guidellm(job: Job) -> dict[str, Any]:
    """Load with the command ``guidellm`` beside this Python."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        target = f"target={job['url']},model=qwen,request_format=/v1/chat/completions"
        words = ["run", "--backend", f"kind=openai_http,{target}", "--disable-console"]
        words += ["--profile", f"kind=concurrent,streams={job['streams']}"]
        words += ["--constraint", f"kind=max_requests,count={job['requests']}"]
        words += ["--tokenizer", f"kind=hf_auto,model={ROOT / 'qwenkit/sandbox/models/qwen2'}"]
        data = f"prompt_tokens=8,output_tokens={job['tokens']}"
        words += ["--data", f"kind=synthetic_text,{data}", "--output", f"kind=json,path={report}"]
        command = Path(sys.executable).with_name("guidellm")
        subprocess.run([command, *words], check=True, stdout=sys.stderr)
        (benchmark,) = json.loads(report.read_text())["benchmarks"]
    requests = benchmark["requests"]["successful"]
    return {"tokens": sum(one["output_tokens"] for one in requests), "sent": []}


if __name__ == "__main__":
    print(json.dumps(PEERS[sys.argv[1]](json.loads(sys.argv[2]))))
