"""What the cluster says about storage: the region of its nodes, and a class that waits."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster_api import OURS, Api, connected, obj

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.deploy import wait_bound
from qwenkit.cluster.preflight.region import internal_endpoint
from qwenkit.errors import WaitTimeout
from qwenkit.settings import Settings

PUBLIC = "https://oss-cn-hangzhou.aliyuncs.com"
INTERNAL = "oss-cn-hangzhou-internal.aliyuncs.com"


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def cluster(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    with connected(api, tmp_path, monkeypatch) as found:
        yield found


def node(api: Api, name: str, region: str) -> None:
    api.add(obj("v1/Node", name, labels={"topology.kubernetes.io/region": region}))


@pytest.mark.parametrize(
    ("values", "regions", "expected"),
    [
        ({}, ["cn-hangzhou", "cn-hangzhou"], INTERNAL),
        ({}, ["cn-hangzhou", "cn-beijing"], ""),
        ({}, ["cn-beijing"], ""),
        ({"oss_internal_endpoint": PUBLIC}, ["cn-hangzhou"], PUBLIC),
        ({"oss_endpoint": "https://weights.example.com"}, ["cn-hangzhou"], ""),
        ({"oss_endpoint": f"https://{INTERNAL}"}, ["cn-hangzhou"], ""),
        ({"storage": "pvc"}, ["cn-hangzhou"], ""),
        ({"context": "absent"}, ["cn-hangzhou"], ""),
    ],
)
def test_nodes_in_the_bucket_s_region_use_its_internal_endpoint(
    api: Api, cluster: Cluster, values: dict[str, str], regions: list[str], expected: str
) -> None:
    for number, region in enumerate(regions):
        node(api, f"node-{number}", region)
    settings = Settings(**{"oss_endpoint": PUBLIC} | values)
    assert internal_endpoint(settings).oss_internal_endpoint == expected


def test_a_claim_that_waits_for_its_first_pod_is_not_waited_for(api: Api, cluster: Cluster) -> None:
    kind = "v1/PersistentVolumeClaim"
    for name, mode in (("standard", "WaitForFirstConsumer"), ("now", "Immediate")):
        api.add(obj("storage.k8s.io/v1/StorageClass", name, volumeBindingMode=mode))
        claim = obj(kind, f"in-{name}", labels=OURS, spec={"storageClassName": name})
        api.add(claim | {"status": {"phase": "Pending"}})
    found = wait_bound(cluster, "in-standard", timeout_s=5).value
    assert found["status"]["phase"] == "Pending"
    with pytest.raises(WaitTimeout):
        wait_bound(cluster, "in-now", timeout_s=0.1)
