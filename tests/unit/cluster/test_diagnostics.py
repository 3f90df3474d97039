"""The diagnostics of a failed run."""

from __future__ import annotations

import pytest
from cluster_api import Api, Replay, obj, status

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.dump import diagnostics
from qwenkit.settings import Settings


@pytest.fixture
def api() -> Api:
    api = Replay("crash", at=60)
    api.listed = lambda _kind: None
    data = {"akId": "aGlkZGVu", "akSecret": "aGlkZGVu"}
    secret = obj("v1/Secret", "llm-model-oss", labels=Settings().labels, data=data)
    secret["metadata"] |= {
        "managedFields": [{"manager": "qwenkit"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "akSecret: hidden"},
    }
    api.add(secret)
    return api


def test_cause_objects_and_events_are_there_and_no_secret(cluster: Cluster) -> None:
    text = diagnostics(cluster, "qwen")
    sections = [line[5:] for line in text.splitlines() if line.startswith("==== ")]
    assert sections[:3] == ["cluster", "explain", "ksvc"]
    assert {"revision", "pod", "secret", "events"} <= set(sections)
    assert "exits with code 1" in text
    assert "kind: Revision" in text
    assert "BackOff" in text.split("==== events")[1]
    assert "- akSecret" in text
    for hidden in ("aGlkZGVu", "hidden", "managedFields", "kube-token"):
        assert hidden not in text


def test_a_section_that_may_not_be_read_shows_the_error(cluster: Cluster, api: Api) -> None:
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "pods is forbidden") if path.endswith("/pods") else None
    )
    text = diagnostics(cluster, "qwen")
    assert "cannot be read: listing pod failed" in text
    assert "kind: Revision" in text
