"""The watch of a Job: whose error is told."""

from __future__ import annotations

import json

import pytest
from cluster_api import Api

from qwenkit.cluster.client import Cluster
from qwenkit.errors import WaitTimeout
from qwenkit.in_cluster.watch import JobWatch


def pod(name: str, phase: str) -> dict[str, object]:
    labels = {"batch.kubernetes.io/job-name": "load"}
    meta = {"name": name, "namespace": "default", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"phase": phase}}


def test_a_worker_that_failed_is_heard_though_others_still_end(api: Api, cluster: Cluster) -> None:
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    api.add(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "load", "namespace": "default"},
            "spec": {"completionMode": "Indexed"},
            "status": {"conditions": [failed]},
        }
    )
    api.add(pod("load-0", "Failed"))
    api.add(pod("load-1", "Running"))
    api.logs = json.dumps(WaitTimeout("worker 0 is late", "it was not running", "wait").to_dict())
    watch = JobWatch(cluster, "load", 1, on_line=print, on_change=None, container="load")
    with pytest.raises(WaitTimeout, match="worker 0 is late"):
        watch.wait(deadline_s=1)
