"""Our client against the sandbox's API over HTTPS: who may change what, in any race."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kube_cluster import Cluster as KubeCluster
from kube_cluster import running

from qwenkit.cluster.client import Cluster
from qwenkit.errors import Conflict
from qwenkit.settings import Settings

OURS = {"app.kubernetes.io/managed-by": "qwenkit", "qwenkit.dev/run": "default"}


def config_map(**data: str) -> dict[str, Any]:
    metadata = {"name": "m", "namespace": "default", "labels": dict(OURS)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.fixture(scope="module")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeCluster]:
    with running(tmp_path_factory.mktemp("kube")) as kube:
        yield kube


@pytest.fixture
def cluster(kube: KubeCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    kube.kubectl("delete", "configmap", "--all")
    with closing(Cluster.connect(Settings(timeout_s=5))) as cluster:
        yield cluster


def meanwhile(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Let somebody act once between our look and our write."""
    find, acts = cluster.find, [act]

    def racing(*args: Any, **how: Any) -> Any:
        found = find(*args, **how)
        if acts:
            acts.pop()()
        return found

    monkeypatch.setattr(cluster, "find", racing)


@pytest.mark.parametrize("data", [["--from-literal=a=theirs"], ["--from-literal=b=theirs"]])
def test_an_object_that_appears_between_look_and_apply_is_not_adopted(
    kube: KubeCluster, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, data: list[str]
) -> None:
    meanwhile(cluster, monkeypatch, lambda: kube.said("create", "configmap", "m", *data))
    with pytest.raises(Conflict):
        cluster.apply(config_map(a="ours"))
    left = kube.got("configmap", "m")
    assert "labels" not in left["metadata"]
    assert left.get("data", {}) == dict(one.split("=")[1:] for one in data)


def test_an_object_that_was_replaced_between_look_and_apply_is_left_alone(
    kube: KubeCluster, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.apply(config_map(a="1"))

    def replace() -> None:
        kube.said("delete", "configmap", "m")
        kube.said("create", "configmap", "m", "--from-literal=a=theirs")

    meanwhile(cluster, monkeypatch, replace)
    with pytest.raises(Conflict, match="not ours"):
        cluster.apply(config_map(a="2"))
    assert kube.got("configmap", "m")["data"] == {"a": "theirs"}


def test_an_object_that_went_between_look_and_apply_is_made_again(
    kube: KubeCluster, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.apply(config_map(a="1"))
    meanwhile(cluster, monkeypatch, lambda: kube.said("delete", "configmap", "m"))
    assert cluster.apply(config_map(a="2"))["data"] == {"a": "2"}


def test_our_object_is_reset_and_loses_what_we_no_longer_name(
    kube: KubeCluster, cluster: Cluster
) -> None:
    cluster.apply(config_map(a="1", b="1"))
    kube.said("patch", "configmap", "m", "-p", '{"data":{"a":"edited","c":"theirs"}}')
    cluster.apply(config_map(a="2"))
    assert kube.got("configmap", "m")["data"] == {"a": "2", "c": "theirs"}


def test_a_patch_and_a_deletion_know_the_object_by_its_uid(
    kube: KubeCluster, cluster: Cluster
) -> None:
    cluster.apply(config_map(a="1"))
    assert cluster.patch("ConfigMap", "m", {"data": {"a": "2"}})["data"] == {"a": "2"}
    assert cluster.delete("ConfigMap", "m")
    assert not cluster.delete("ConfigMap", "m")
