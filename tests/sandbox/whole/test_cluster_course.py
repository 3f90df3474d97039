"""The library's way through the course, against the whole sandbox over its real protocols."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from qwenkit.capacity.simulation.traffic import ClosedLoop
from qwenkit.cluster.change.proposal import propose_change
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.deploy import deploy
from qwenkit.cluster.diagnosis.cold_start import cold_start
from qwenkit.cluster.diagnosis.explain import explain
from qwenkit.cluster.kinds import KSVC
from qwenkit.cluster.live_scaling import live_scaling
from qwenkit.cluster.preflight.doctor import examine
from qwenkit.cluster.teardown import audit, teardown
from qwenkit.cluster.watching import sample_cluster
from qwenkit.credentials import Credentials
from qwenkit.errors import Conflict, NotFound, NotReady, Rejected
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import start_load
from qwenkit.loadtest.comparison import compare
from qwenkit.loadtest.prediction import predict
from qwenkit.loadtest.running import LoadTest
from qwenkit.loadtest.story import start_test, wake
from qwenkit.loadtest.timeline import Timeline
from qwenkit.manifests.render import render, secret
from qwenkit.sandbox import process
from qwenkit.settings import Settings
from qwenkit.steps import find_server

FOLDER = "Qwen-7B-Chat-Int8"


def command(arguments: str) -> None:
    words = [sys.executable, "-m", "qwenkit", "sandbox", *arguments.split()]
    subprocess.run(words, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    root = tmp_path_factory.mktemp("sandbox")
    command(f"up --detach --time-scale 1000 --root {root}")
    try:
        environment = process.environment(root)
        bucket = root / "oss" / environment["OSS_BUCKET"]
        shutil.copytree(root / "hub" / "qwen" / FOLDER, bucket / FOLDER)
        yield environment
    finally:
        command(f"down --root {root}")


@pytest.fixture
def settings(sandbox: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in sandbox.items():
        monkeypatch.setenv(name, value)
    return Settings(stable_window="6s", timeout_s=60.0)


@pytest.fixture
def cluster(settings: Settings) -> Iterator[Cluster]:
    cluster = Cluster.connect(settings)
    try:
        yield cluster
    finally:
        teardown(cluster, settings)
        assert audit(cluster, settings).found == ()
        cluster.close()


def documents(settings: Settings) -> list[Any]:
    return [secret(settings, Credentials.required()), *render(settings)[1:]]


def load_and_watch(cluster: Cluster, server: Server) -> None:
    traffic = ClosedLoop(((0, 2), (1, 0)))
    test = LoadTest(
        cluster,
        "qwen",
        lambda: start_load(server, traffic, prompt="x", max_tokens=8),
        every_s=0.2,
    )
    seen = [test.snapshot()]
    deadline = time.monotonic() + 20
    # The autoscaler decides every two seconds: the load may have ended before it counts it.
    while not (test.load.done and seen[-1].panic) and time.monotonic() < deadline:
        seen.append(test.snapshot())
        time.sleep(0.05)
    timeline = test.result()
    assert max(moment.in_flight for moment in seen) == 2
    requests = timeline.load.summary()
    assert (requests["errors"], requests["ok"] > 2) == ({}, True)
    assert {sample.served.ready for sample in timeline.cluster if sample.at_s <= 1} == {1}
    assert (timeline.gaps, timeline.unknown) == ([], {})
    # Who answered is the same by the gateway's header and by vLLM's own counters.
    assert timeline.served_by == requests["served_by"]
    nameless = [replace(request, pod="") for request in timeline.load.requests]
    counted = Timeline(replace(timeline.load, requests=tuple(nameless)), timeline.cluster)
    assert counted.served_by == timeline.served_by
    assert max(moment.panic or 0 for moment in timeline.moments()) > 0


def test_the_whole_way(cluster: Cluster, settings: Settings) -> None:
    report = examine(
        settings,
        bucket_check=lambda: "there",
        secret=settings.secret,
        service=render(settings)[-1],
    )
    # At full scale no GPU is spare, and an image is known once it was pulled.
    found = {c.name: c.verdict for c in report.checks}
    assert (found.pop("rollout"), found.pop("image")) == ("warn", "unknown")
    assert set(found.values()) == {"ok", "not applicable"}, str(report)

    deployed = deploy(cluster, settings, documents(settings))
    assert (deployed.revision, deployed.host) == ("qwen-00001", "qwen.default.example.com")
    assert explain(cluster, "qwen").kind == "ready"
    started = cold_start(cluster, "qwen", deployed.revision)
    phases = ["engine start", "weights read", "KV profiling", "server up", "probe"]
    steps = ["scheduled", "mount", "image", "container", *phases]
    assert [step.name for step in started.steps] == steps
    assert started.attributed_percent >= 95

    server = Server(deployed.gateway, deployed.host, model="qwen", timeout_s=60)
    answer = server.ask(settings.prompt, max_tokens=10, temperature=0.7, top_p=0.9, seed=10)
    assert answer.text == "西湖位于中国浙江省杭州市,是中国著名的风景名"
    assert answer.usage == {"prompt_tokens": 10, "total_tokens": 20, "completion_tokens": 10}
    streamed = server.stream(settings.prompt, max_tokens=10)
    assert ("".join(streamed), streamed.stats.tokens) == (answer.text, 10)
    assert (answer.clock, streamed.stats.clock) == (1000, 1000)
    assert server.without_host().status == 404
    misnamed = Server(deployed.gateway, deployed.host, model="gpt-4")
    with pytest.raises(NotFound, match="gpt-4"):
        misnamed.ask("x")
    misnamed.close()
    metrics = server.client.get("../metrics", cast_to=str)
    assert 'vllm:num_requests_running{model_name="qwen"} 0' in metrics

    load_and_watch(cluster, server)
    server.close()

    again = deploy(cluster, settings, documents(settings))
    assert again.revision == deployed.revision
    # The load may have filled the node: then the new pod waits for a GPU.
    changed = propose_change(cluster, "qwen", {"target": "1"}).apply("surge", timeout_s=60)
    assert (changed.old_revision, changed.new_revision) == ("qwen-00001", "qwen-00002")
    assert sample_cluster(cluster, "qwen").serving == "qwen-00002"
    with pytest.raises(Rejected, match="patching ksvc qwen") as caught:
        propose_change(cluster, "qwen", {"target": "0"})
    assert "should be at least 0.01" in caught.value.why
    back = changed.undo("surge", timeout_s=60)
    assert (back.old_revision, back.new_revision) == ("qwen-00002", "qwen-00003")
    assert back.proposed.next_revision == back.new_revision
    assert live_scaling(cluster, "qwen").spec.total == 2
    assert "of 3 free" in str(back.proposed.gpus)
    many = propose_change(cluster, "qwen", {"min-scale": "9", "max-scale": "9"})
    with pytest.raises(NotReady, match="surge does not work now") as full:
        many.apply(timeout_s=60)
    assert any("default/qwen-0000" in holder for holder in full.value.context["evidence"])


def test_an_old_revisions_pod_that_holds_the_third_gpu_is_named(
    cluster: Cluster, settings: Settings
) -> None:
    settings = settings.model_copy(update={"load_seconds": 4.0, "load_prompt_tokens": 100})
    kept = settings.model_copy(update={"min_scale": 1})
    deploy(cluster, kept, documents(kept))
    old = sample_cluster(cluster, "qwen").serving
    # A tag keeps a revision reachable, and its min-scale keeps its pod.
    tagged = {"revisionName": old, "tag": "old", "percent": 0}
    latest = {"latestRevision": True, "percent": 100}
    cluster.patch(KSVC, "qwen", {"spec": {"traffic": [latest, tagged]}})
    propose_change(cluster, "qwen", {"min-scale": "0"}).apply("surge", timeout_s=60)
    assert wake(settings).served.ready == 1
    server = find_server(settings)
    expected = predict(settings, cluster, server)
    server.close()
    found = compare(expected, start_test(settings, expected.traffic).result(), min_scale=0, most=3)
    assert expected.environment.gpus == 2
    assert found.peak_ready == 2
    assert f"of revision {old}" in found.problems[0]
    assert "waited for a GPU, while another revision's pod holds one" in found.problems[0]


def test_an_image_that_is_not_there_is_explained(cluster: Cluster, settings: Settings) -> None:
    wrong = settings.model_copy(update={"image": "registry.invalid/kube-ai/vllm:9.9"})
    with pytest.raises(NotReady, match="does not become ready") as caught:
        deploy(cluster, wrong, documents(wrong))
    assert caught.value.context["cause"] == "image"
    assert "registry.invalid" in caught.value.why


def test_another_run_is_not_overwritten(cluster: Cluster, settings: Settings) -> None:
    for document in documents(settings)[:3]:
        cluster.apply(document)
    other = settings.model_copy(update={"run": "alice"})
    theirs = Cluster.connect(other)
    with pytest.raises(Conflict, match="not ours") as caught:
        deploy(theirs, other, documents(other))
    assert repr(settings.run) in caught.value.why
    assert teardown(theirs, other).steps[0].outcome == "none"
    theirs.close()
    assert cluster.find("pvc", settings.volume) is not None
