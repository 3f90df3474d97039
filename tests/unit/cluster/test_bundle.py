"""A bundle of objects and logs is written, read on another machine, and explained there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cluster_api import final

from qwenkit.cluster.diagnosis.bundle import read_bundle, write_bundle
from qwenkit.cluster.diagnosis.snapshot import LogName, Snapshot, log_names
from qwenkit.errors import InvalidValue, NotFound
from qwenkit.steps import explain_bundle


def test_what_was_written_is_explained(tmp_path: Path) -> None:
    objects = final("crash")
    (pod,) = (o["metadata"]["name"] for o in objects if o["kind"] == "Pod")
    logs = {LogName(pod, "vllm-container", True): "boom\n", LogName("../x", "c"): "no"}
    write_bundle(tmp_path / "b", objects, logs)
    found = explain_bundle(tmp_path / "b")
    assert (found.is_ready, found.permanent) == (False, True)
    assert "boom" in found.evidence
    assert [p.name for p in (tmp_path / "b" / "logs").iterdir()] == [pod]


def test_a_pod_has_the_logs_of_what_has_begun() -> None:
    waits: dict[str, Any] = {"waiting": {}}
    ended = {"terminated": {"exitCode": 1}}
    of_init = {"name": "init", "restartCount": 0, "state": ended}
    own = {"name": "c", "restartCount": 2, "state": waits, "lastState": ended}
    queue = {"name": "queue-proxy", "restartCount": 0, "state": waits}
    status = {"initContainerStatuses": [of_init], "containerStatuses": [own, queue]}
    found = [*log_names({"metadata": {"name": "p"}, "status": status})]
    assert found == [LogName("p", "c"), LogName("p", "c", True), LogName("p", "init")]


def test_the_last_lines_are_the_server_s_not_the_queue_proxy_s() -> None:
    objects = tuple(final("crash"))
    (pod,) = (o["metadata"]["name"] for o in objects if o["kind"] == "Pod")
    logs = {LogName(pod, "queue-proxy"): "probing\n", LogName(pod, "vllm-container"): "a\nb\n\n"}
    assert Snapshot("qwen", objects, logs).last_lines(1) == ["b"]


def test_what_kubectl_prints_will_do_and_a_null_is_no_field(tmp_path: Path) -> None:
    service: dict[str, Any] = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
    service |= {"metadata": {"name": "qwen", "labels": None}, "spec": None, "status": None}
    (tmp_path / "objects.json").write_text(json.dumps(service))
    assert read_bundle(tmp_path).service == {
        **{k: service[k] for k in ("apiVersion", "kind")},
        "metadata": {"name": "qwen"},
        "spec": {},
        "status": {},
    }
    assert explain_bundle(tmp_path, "other").kind == "absent"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"items": {}}', '{"items": [1]}', "[" * 9999, '{"items": [{}]}']
)
def test_what_is_no_list_of_objects_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "objects.json").write_text(text)
    with pytest.raises(InvalidValue, match=r"objects\.json"):
        read_bundle(tmp_path, "qwen")


def test_a_folder_without_a_bundle_and_services_without_a_choice(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"holds no objects\.json"):
        read_bundle(tmp_path)
    (tmp_path / "objects.json").write_text('{"items": []}')
    with pytest.raises(InvalidValue, match="NAME"):
        read_bundle(tmp_path)
