"""The real kubectl against the sandbox's API."""

from __future__ import annotations

import json
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
STORAGE = """
apiVersion: v1
kind: Secret
metadata: {name: oss-secret}
stringData: {akId: id, akSecret: secret}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: llm-model, labels: {alicloud-pvname: llm-model}}
spec:
  capacity: {storage: 30Gi}
  accessModes: [ReadOnlyMany]
  persistentVolumeReclaimPolicy: Retain
  csi:
    driver: ossplugin.csi.alibabacloud.com
    volumeHandle: llm-model
    nodePublishSecretRef: {name: oss-secret, namespace: default}
    volumeAttributes: {bucket: b, url: oss-cn-hangzhou.aliyuncs.com, path: /}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: llm-model}
spec:
  accessModes: [ReadOnlyMany]
  resources: {requests: {storage: 30Gi}}
  selector: {matchLabels: {alicloud-pvname: llm-model}}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("kube")) as cluster:
        yield cluster


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def service(cluster: Cluster, name: str) -> str:
    """Apply a Service; return the YAML it came from."""
    text = KSVC.replace("NAME", name)
    cluster.said("apply", "--server-side", "--validate=false", "-f", "-", stdin=text)
    return text


def test_version_and_resources(cluster: Cluster) -> None:
    assert json.loads(cluster.said("version", "-o", "json"))["serverVersion"]["minor"] == "36"
    listed = cluster.said("api-resources", "--no-headers")
    assert "kservice,ksvc" in listed
    assert "persistentvolumeclaims" in listed
    assert "services.serving.knative.dev" in cluster.said("get", "crd")


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


def test_storage(cluster: Cluster) -> None:
    cluster.said("apply", "--server-side", "-f", "-", stdin=STORAGE)
    volume, claim = cluster.got("pv", "llm-model"), cluster.got("pvc", "llm-model")
    assert (volume["status"], claim["status"]) == ({"phase": "Pending"}, {"phase": "Pending"})
    assert cluster.got("secret", "oss-secret")["data"] == {"akId": "aWQ=", "akSecret": "c2VjcmV0"}
    assert rows(cluster.said("get", "pv", "--no-headers"))[0][:5] == [
        "llm-model",
        "30Gi",
        "ROX",
        "Retain",
        "Pending",
    ]
    refused = cluster.kubectl(
        "patch",
        "pvc",
        "llm-model",
        "--type=merge",
        "-p",
        '{"spec":{"accessModes":["ReadWriteMany"]}}',
    )
    assert "spec is immutable after creation" in refused.stderr
    cluster.said("patch", "secret", "oss-secret", "-p", '{"data":{"akId":"eA=="}}')
    assert cluster.got("secret", "oss-secret")["data"]["akId"] == "eA=="
    assert "deleted" in cluster.said("delete", "-f", "-", stdin=STORAGE)


def test_client_side_apply_too(cluster: Cluster) -> None:
    text = KSVC.replace("NAME", "classic")
    assert "created" in cluster.said("apply", "-f", "-", stdin=text)
    assert "unchanged" in cluster.said("apply", "-f", "-", stdin=text)
    changed = text.replace('"2"', '"3"')
    assert "configured" in cluster.said("apply", "-f", "-", stdin=changed)
    assert cluster.got("ksvc", "classic")["metadata"]["generation"] == 2


def test_patch_label_annotate(cluster: Cluster) -> None:
    service(cluster, "patched")
    path = "/spec/template/spec/containers/0/image"
    patch = [
        {"op": "test", "path": path, "value": "registry/vllm:1"},
        {"op": "replace", "path": path, "value": "registry/vllm:2"},
    ]
    cluster.said("patch", "ksvc", "patched", "--type=json", "-p", json.dumps(patch))
    cluster.said("patch", "ksvc", "patched", "--type=merge", "-p", '{"spec":{"traffic":[]}}')
    cluster.said("label", "ksvc", "patched", "a=b", "release-")
    cluster.said("annotate", "ksvc", "patched", "note=yes")
    found = cluster.got("ksvc", "patched")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "registry/vllm:2"
    assert found["spec"]["traffic"] == []
    assert found["metadata"]["labels"] == {"a": "b"}
    assert found["metadata"]["annotations"]["note"] == "yes"
    failed = json.dumps([{"op": "test", "path": path, "value": "other"}])
    assert cluster.kubectl("patch", "ksvc", "patched", "--type=json", "-p", failed).returncode == 1
    strategic = cluster.kubectl("patch", "ksvc", "patched", "-p", "{}")
    assert "not supported by serving.knative.dev/v1, Kind=Service" in strategic.stderr


def test_somebody_elses_change_conflicts(cluster: Cluster) -> None:
    text = service(cluster, "contested")
    where = "spec.template.metadata.annotations.autoscaling.knative.dev/target"
    body = {
        "spec": {"template": {"metadata": {"annotations": {"autoscaling.knative.dev/target": "4"}}}}
    }
    cluster.said("patch", "ksvc", "contested", "--type=merge", "-p", json.dumps(body))
    again = cluster.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    assert again.returncode == 1
    assert (
        'Apply failed with 1 conflict: conflict with "kubectl-patch" '
        f"using serving.knative.dev/v1: .{where}\n"
    ) in again.stderr
    cluster.said("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


def test_selectors_names_and_pages(cluster: Cluster) -> None:
    for name in ("sel-a", "sel-b", "sel-c"):
        service(cluster, name)
    get = ("get", "ksvc", "-o", "name")
    assert cluster.said(*get, "-l", "release in (sel-a, sel-c)").split() == [
        "service.serving.knative.dev/sel-a",
        "service.serving.knative.dev/sel-c",
    ]
    assert "sel-b" not in cluster.said(*get, "-l", "release!=sel-b")
    chosen = cluster.said(*get, "--field-selector", "metadata.name=sel-b")
    assert chosen == "service.serving.knative.dev/sel-b\n"
    unpaged = cluster.said(*get)
    assert cluster.said(*get, "--chunk-size=2") == unpaged
    bad = cluster.kubectl(*get, "--field-selector", "spec.foo=1")
    assert "field label not supported: spec.foo" in bad.stderr


def test_watch_prints_changes(cluster: Cluster) -> None:
    service(cluster, "watched")
    command = [
        "kubectl",
        f"--cache-dir={cluster.folder / 'cache'}",
        "get",
        "ksvc",
        "watched",
        "-w",
        "-o",
        "jsonpath={.metadata.labels.step}{'\\n'}",
    ]
    with subprocess.Popen(
        command, env=cluster.environment(), stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "\n"
        cluster.said("label", "ksvc", "watched", "step=one")
        assert watcher.stdout.readline() == "one\n"
        watcher.terminate()


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
    never = cluster.kubectl(*logs, "--previous")
    assert 'previous terminated container "vllm" in pod "p" not found' in never.stderr
    assert "no times of log lines" in cluster.kubectl(*logs, "--since=1h").stderr
    wrong = cluster.kubectl("logs", "p", "-c", "nope")
    assert "container nope is not valid for pod p" in wrong.stderr
    left_out = cluster.kubectl("exec", "p", "-c", "vllm", "--", "ls")
    assert "pods/exec is not part of the sandbox" in left_out.stderr
    assert "gpu-node" in cluster.said("describe", "pod", "p")


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


def test_namespaces_come_and_go(cluster: Cluster) -> None:
    manifest = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n"
    cluster.said("apply", "--server-side", "-f", "-", stdin=manifest)
    cluster.said("apply", "--server-side", "-n", "team", "-f", "-", stdin=KSVC.replace("NAME", "s"))
    assert "team" in cluster.said("get", "ksvc", "-A")
    assert "deleted" in cluster.said("delete", "namespace", "team")
    orphan = cluster.kubectl(
        "apply", "--server-side", "-n", "team", "-f", "-", stdin=KSVC.replace("NAME", "s")
    )
    assert 'namespaces "team" not found' in orphan.stderr


def test_dry_run_strict_fields_and_rights(cluster: Cluster) -> None:
    text = KSVC.replace("NAME", "dry")
    said = cluster.said("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=text)
    assert "serverside-applied (server dry run)" in said
    assert cluster.said("get", "ksvc", "dry", "--ignore-not-found") == ""
    typo = text.replace("image:", "imge: x, image:")
    strict = cluster.kubectl("create", "--validate=strict", "-f", "-", stdin=typo)
    assert 'unknown field "spec.template.spec.containers[0].imge"' in strict.stderr
    warned = cluster.kubectl("create", "--validate=warn", "-f", "-", stdin=typo)
    assert warned.returncode == 0
    assert 'unknown field "spec.template.spec.containers[0].imge"' in warned.stderr
    assert "imge" not in cluster.said("get", "ksvc", "dry", "-o", "yaml")
    assert cluster.said("auth", "can-i", "delete", "pods") == "yes\n"
    refused = cluster.kubectl("create", "-f", "-", stdin=text.replace("registry/vllm:1", "refused"))
    assert "denied the request: no" in refused.stderr


def test_delete_collection(cluster: Cluster) -> None:
    for name in ("all-a", "all-b"):
        service(cluster, name)
    cluster.said("delete", "ksvc", "-l", "release in (all-a, all-b)")
    assert "all-" not in cluster.said("get", "ksvc", "-o", "name")
