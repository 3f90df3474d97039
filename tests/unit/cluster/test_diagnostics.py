"""What a failed run leaves to be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster_api import Api, Replay, serving, status, write_kubeconfig

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.dump import diagnostics
from qwenkit.settings import Settings


def text_of(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    with serving(api.app()) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "config", url)))
        cluster = Cluster.connect(Settings())
        try:
            return diagnostics(cluster, "qwen")
        finally:
            cluster.close()


def crashed() -> Api:
    api = Replay("crash", at=60)
    api.listed = lambda _kind: None
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "llm-model-oss",
            "namespace": "default",
            "labels": Settings().labels,
            "managedFields": [{"manager": "qwenkit"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "akSecret: hidden"},
        },
        "data": {"akId": "aGlkZGVu", "akSecret": "aGlkZGVu"},
    }
    api.add(secret)
    return api


def test_cause_objects_and_events_are_there_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(crashed(), tmp_path, monkeypatch)
    sections = [line[5:] for line in text.splitlines() if line.startswith("==== ")]
    assert sections[:3] == ["cluster", "explain", "ksvc"]
    assert {"revision", "pod", "secret", "events"} <= set(sections)
    assert "exits with code 1" in text
    assert "kind: Revision" in text
    assert "BackOff" in text.split("==== events")[1]
    assert "- akSecret" in text
    assert "aGlkZGVu" not in text
    assert "hidden" not in text
    assert "managedFields" not in text
    assert "kube-token" not in text


def test_what_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = crashed()
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "pods is forbidden") if path.endswith("/pods") else None
    )
    text = text_of(api, tmp_path, monkeypatch)
    assert "cannot be read: listing pod failed" in text
    assert "kind: Revision" in text
