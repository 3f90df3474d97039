"""A candidate that is bad, or a person who stops it, leaves a Service that is whole."""

from __future__ import annotations

import pytest

from qwenkit import Canary, Cluster, Gate, Settings, deploy, find_server, propose_change, teardown
from qwenkit.cluster.kinds import KSVC
from qwenkit.errors import Conflict, NotFound
from qwenkit.sandbox import process
from qwenkit.sandbox.faults.catalogue import parse
from qwenkit.sandbox.faults.client import call

FOLLOWS = [{"latestRevision": True, "percent": 100}]
GATE = Gate(ttft_p95_s=5, requests=3, failed=0.0)


@pytest.fixture
def served(sandbox, qwenkit, monkeypatch):
    for name, value in process.environment(sandbox).items():
        monkeypatch.setenv(name, value)
    own = dict.fromkeys(("service", "volume", "run", "prefix"), "canary")
    s = Settings(**own, mount_path="/canary", min_scale=1, delete_weights=True, timeout_s=60)
    source = "modelscope:qwen/Qwen-7B-Chat-Int8"
    done = qwenkit("upload", source, f"oss://{s.bucket}/canary", env={"QWENKIT_RUN": "canary"})
    assert done.returncode == 0, done.stderr
    deploy(s)
    yield s
    teardown(s)


def state(s):
    found = Cluster.connect(s).get(KSVC, s.service)
    return found["spec"]["traffic"], found["status"]["latestReadyRevisionName"]


def test_an_interrupt_and_a_slow_candidate_are_rolled_back(served, sandbox):
    s = served
    cluster = Cluster.connect(s)

    def note(text):
        return propose_change(cluster, s.service, {"example.com/note": text})

    def stop(seen):
        if "canary-00002: starting" in str(seen):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        Canary.start(s, note("stopped"), on_change=stop)
    assert "rolled back: canary-00001 serves" in "".join(stopped.value.__notes__)
    traffic, serves = state(s)
    assert traffic == FOLLOWS
    assert serves in ("canary-00001", "canary-00003")
    with pytest.raises(NotFound, match="no tag candidate"):
        find_server(s, tag="candidate")
    assert not [each for each in note("again").diff if each.before]

    slow = Canary.start(s, note("slow"), mode="surge")
    with pytest.raises(Conflict, match="no candidate was made"):
        Canary.start(s, note("another"))
    order = {"where": "pod", "what": "slow", "name": slow.candidate, "seconds": 0.4}
    call(sandbox, "POST", parse(order).model_dump())
    (step,) = slow.advance(GATE)
    assert (step.share, step.gate, step.failed, step.wrong) == (10, "held", 0, ())
    assert step.why.startswith("TTFT p95 is ")
    traffic, serves = state(s)
    assert traffic == FOLLOWS
    assert serves != slow.candidate
    assert find_server(s).ask("你好", max_tokens=1).text
