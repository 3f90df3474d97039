"""The real kubectl against the sandbox's API."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from kube_cluster import Cluster, running

KSVC = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: NAME
  labels: {release: NAME}
spec:
  template:
    metadata:
      annotations: {autoscaling.knative.dev/target: "2"}
    spec:
      containers: [{name: vllm-container, image: registry/vllm:1}]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("kube")) as cluster:
        yield cluster


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_apply_reapply_and_the_columns_of_a_service(cluster: Cluster) -> None:
    text = KSVC.replace("NAME", "cols")
    apply = ("apply", "--server-side", "-f", "-")
    assert "serverside-applied" in cluster.said(*apply, stdin=text)
    version = cluster.got("ksvc", "cols")["metadata"]["resourceVersion"]
    cluster.said(*apply, stdin=text)
    assert cluster.got("ksvc", "cols")["metadata"]["resourceVersion"] == version
    ready = {
        "url": "http://cols.default.example.com",
        "latestCreatedRevisionName": "cols-00001",
        "latestReadyRevisionName": "cols-00001",
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    cluster.on_loop(
        lambda store: store.update_status(
            "KnativeService", {**store.get("KnativeService", "default", "cols"), "status": ready}
        )
    )
    assert rows(cluster.said("get", "ksvc", "cols")) == [
        ["NAME", "URL", "LATESTCREATED", "LATESTREADY", "READY", "REASON"],
        ["cols", "http://cols.default.example.com", "cols-00001", "cols-00001", "True"],
    ]
    assert "condition met" in cluster.said("wait", "--for=condition=Ready", "ksvc/cols")


def test_client_side_apply_too(cluster: Cluster) -> None:
    text = KSVC.replace("NAME", "classic")
    assert "created" in cluster.said("apply", "-f", "-", stdin=text)
    assert "unchanged" in cluster.said("apply", "-f", "-", stdin=text)
    changed = text.replace('"2"', '"3"')
    assert "configured" in cluster.said("apply", "-f", "-", stdin=changed)
    assert cluster.got("ksvc", "classic")["metadata"]["generation"] == 2


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    containers = [{"name": "vllm", "image": "i:1"}, {"name": "queue-proxy", "image": "q:1"}]
    return {
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"containers": containers, "nodeName": "gpu-node"},
    }


def running_pod(name: str) -> dict[str, Any]:
    containers = pod(name)["spec"]["containers"]
    states = [{"name": one["name"], "state": {"running": {}}} for one in containers]
    return {**pod(name), "status": {"phase": "Running", "containerStatuses": states}}


def test_pods_their_columns_and_logs(cluster: Cluster) -> None:
    cluster.on_loop(lambda store: store.create("Pod", pod("p")))
    head, row = rows(cluster.said("get", "pods", "p", "-o", "wide"))
    assert head[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row[:4] == ["p", "0/2", "Pending", "0"]
    assert row[5:7] == ["<none>", "gpu-node"]
    waiting = cluster.kubectl("logs", "p", "-c", "vllm")
    assert 'container "vllm" in pod "p" is not available' in waiting.stderr
    cluster.on_loop(lambda store: store.update_status("Pod", running_pod("p")))
    logs = ("logs", "p", "-c", "vllm")
    assert cluster.said(*logs) == "default/p/vllm\nthe last line\n"
    assert cluster.said(*logs, "--tail=1") == "the last line\n"
    assert cluster.said(*logs, "--tail=1", "-f") == "the last line\nand more\n"
    assert cluster.said(*logs, "--limit-bytes=7") == "default"


def test_delete_waits_for_the_kubelet(cluster: Cluster) -> None:
    cluster.on_loop(lambda store: store.create("Pod", pod("slow")))
    command = ["kubectl", f"--cache-dir={cluster.folder / 'cache'}", "delete", "pod", "slow"]
    with subprocess.Popen(
        command, env=cluster.environment(), stdout=subprocess.PIPE, text=True
    ) as deleting:
        assert deleting.stdout is not None
        assert deleting.stdout.readline() == 'pod "slow" deleted\n'
        assert rows(cluster.said("get", "pod", "slow"))[1][2] == "Terminating"
        assert deleting.poll() is None
        cluster.on_loop(lambda store: store.delete("Pod", "default", "slow", grace_seconds=0))
        assert deleting.wait(timeout=60) == 0
    assert cluster.said("get", "pod", "slow", "--ignore-not-found") == ""
