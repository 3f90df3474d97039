"""Validation and printing: the API server's words, and kubectl's columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.reads import selectors
from qwenkit.sandbox.kube.reads.ages import human_duration
from qwenkit.sandbox.kube.reads.columns import columns
from qwenkit.sandbox.kube.storage import defaults
from qwenkit.sandbox.kube.writes import validation

KINDS = Kinds()
NOW = datetime(2026, 8, 1, 12, 0, 0, tzinfo=UTC)
PV_SPEC = {
    "capacity": {"storage": "30Gi"},
    "accessModes": ["ReadOnlyMany"],
    "csi": {"driver": "d", "volumeHandle": "h"},
}
PVC_SPEC = {
    "accessModes": ["ReadOnlyMany"],
    "resources": {"requests": {"storage": "30Gi"}},
}


def refusal(kind: str, old: Any = None, name: str = "x", **fields: Any) -> str:
    obj = {"metadata": {"name": name}, **fields}
    with pytest.raises(ApiError) as refused:
        validation.validate(KINDS[kind], obj, old)
    assert refused.value.status == 422
    return refused.value.message


def test_good_storage_passes() -> None:
    for kind, spec in (("PersistentVolume", PV_SPEC), ("PersistentVolumeClaim", PVC_SPEC)):
        validation.validate(KINDS[kind], {"metadata": {"name": "x"}, "spec": spec})


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("PersistentVolume", {"accessModes": []}, "spec.accessModes: Required value"),
        ("PersistentVolume", {"capacity": {}}, "spec.capacity: Required value"),
        ("PersistentVolume", {"csi": None}, "spec: Required value: must specify a volume type"),
        ("PersistentVolume", {"csi": {"driver": "d"}}, "spec.csi.volumeHandle: Required value"),
        (
            "PersistentVolume",
            {"persistentVolumeReclaimPolicy": "Keep"},
            'spec.persistentVolumeReclaimPolicy: Unsupported value: "Keep": supported values: '
            '"Delete", "Recycle", "Retain"',
        ),
        (
            "PersistentVolume",
            {"accessModes": ["ROX"]},
            'spec.accessModes: Unsupported value: "ROX": supported values: "ReadOnlyMany", '
            '"ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"',
        ),
        (
            "PersistentVolumeClaim",
            {"accessModes": []},
            "spec.accessModes: Required value: at least 1 access mode is required",
        ),
        ("PersistentVolumeClaim", {"resources": {}}, "spec.resources[storage]: Required value"),
        (
            "PersistentVolumeClaim",
            {"resources": {"requests": {"storage": "0"}}},
            'spec.resources[storage]: Invalid value: "0": must be greater than zero',
        ),
    ],
)
def test_storage_rules(kind: str, change: dict[str, Any], message: str) -> None:
    base = PV_SPEC if kind == "PersistentVolume" else PVC_SPEC
    spec = {key: value for key, value in (base | change).items() if value is not None}
    assert refusal(kind, spec=spec) == f'{kind} "x" is invalid: {message}'


def test_names() -> None:
    assert refusal("KnativeService", name="Qwen").startswith(
        'Service.serving.knative.dev "Qwen" is invalid: metadata.name: Invalid value: "Qwen": '
        "a lowercase RFC 1123 subdomain must consist of"
    )
    assert "a DNS-1035 label must consist of" in refusal("Service", name="1a")
    assert "must be no more than 63 bytes" in refusal("Namespace", name="a" * 64)
    labels = {"name": "x", "labels": {"a b": "c", "ok": "-"}}
    message = refusal("ConfigMap", metadata=labels)
    assert "name part must consist of" in message
    assert "a valid label must be an empty string" in message
    assert message.startswith('ConfigMap "x" is invalid: [metadata.labels')


def test_immutable_fields() -> None:
    claim = {"metadata": {"name": "x"}, "spec": {**PVC_SPEC, "volumeName": "v"}}
    bound = {**claim["spec"], "resources": {"requests": {"storage": "40Gi"}}}
    validation.validate(KINDS["PersistentVolumeClaim"], {**claim, "spec": bound}, claim)
    validation.validate(
        KINDS["PersistentVolumeClaim"], claim, {"metadata": {"name": "x"}, "spec": PVC_SPEC}
    )
    other = {**bound, "volumeName": "w"}
    assert "spec is immutable" in refusal("PersistentVolumeClaim", claim, spec=other)
    volume = {"metadata": {"name": "x"}, "spec": PV_SPEC}
    moved = {**PV_SPEC, "csi": {"driver": "d", "volumeHandle": "elsewhere"}}
    assert refusal("PersistentVolume", volume, spec=moved).endswith(
        "spec.persistentvolumesource is immutable after creation"
    )
    sealed = {"metadata": {"name": "x"}, "data": {"a": "MQ=="}, "immutable": True}
    assert "field is immutable when" in refusal("ConfigMap", sealed, data={"a": "Mg=="})


def test_secret_data() -> None:
    with pytest.raises(ApiError, match="illegal base64 data") as refused:
        validation.decode_secret({"data": {"akSecret": "not base64!"}})
    assert "not base64!" not in str(refused.value.body())
    assert "a valid config key must consist of" in refusal("Secret", data={"a b": "MQ=="})


def test_pod_defaults() -> None:
    limited = {"name": "c", "image": "r/i", "resources": {"limits": {"cpu": "1"}}}
    pod: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"containers": [limited]}}
    defaults.fill_in(KINDS["Pod"], pod)
    container = pod["spec"]["containers"][0]
    assert container["imagePullPolicy"] == "Always"
    assert container["resources"]["requests"] == {"cpu": "1"}
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30
    assert defaults.initial_status(KINDS["Pod"], pod) == {
        "phase": "Pending",
        "qosClass": "Burstable",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (95, "95s"),
        (120, "2m"),
        (310, "5m10s"),
        (660, "11m"),
        (3 * 3600 + 1200, "3h20m"),
        (9 * 3600 + 60, "9h"),
        (52 * 3600, "2d4h"),
        (40 * 86400, "40d"),
        (800 * 86400, "2y70d"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def cells(kind: str, **obj: Any) -> dict[str, Any]:
    obj = {"metadata": {"name": "x", "creationTimestamp": "2026-08-01T11:59:00Z"}, **obj}
    return {column.name: column.cell(obj, NOW) for column in columns(KINDS[kind])}


def test_every_kind_prints_an_empty_object() -> None:
    for kind in KINDS:
        assert "x" in cells(kind.name).values()


def test_a_crashing_pod() -> None:
    running = {"ready": True, "state": {"running": {}}}
    crashed = {
        "ready": False,
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "2026-08-01T11:59:30Z"}},
    }
    status = {"phase": "Running", "containerStatuses": [crashed, running]}
    row = cells("Pod", spec={"containers": [{}, {}]}, status=status)
    assert (row["Ready"], row["Status"]) == ("1/2", "CrashLoopBackOff")
    assert (row["Restarts"], row["Age"]) == ("3 (30s ago)", "60s")


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", True),
        ("app=qwen", True),
        ("app==qwen,tier!=db", True),
        ("app!=qwen", False),
        ("app in (a, qwen)", True),
        ("app notin (a,qwen)", False),
        ("tier", False),
        ("!tier,app", True),
        ("qwenkit.dev/run=default", True),
        ("tier notin (a)", True),
    ],
)
def test_label_selectors(text: str, chosen: bool) -> None:
    labels = {"app": "qwen", "qwenkit.dev/run": "default"}
    assert selectors.by_labels(text)({"metadata": {"labels": labels}}) is chosen
